"""Several processes that train one model together: ranks, started by mpirun, srun or ``ranks=N``.

``world`` knows which rank this process is, ``launcher`` starts ranks, ``cores`` and ``gpus`` give each its share of the
machine, ``averaging`` joins sums and gradients inside Jittor's graph, ``team`` exchanges Python objects, ``watchdog``
and ``guardian`` see to it that no failure goes unnoticed. In a run of one process each of them does nothing.
"""
