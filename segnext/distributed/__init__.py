"""Several processes that train one model together: ranks, started by mpirun, srun or ``ranks=N``.

``world`` knows which rank this process is, ``mpirun`` starts ranks, ``gpus`` gives each its GPU,
``all_reduce`` averages inside Jittor's graph, ``communicator`` exchanges Python objects, and ``hang_timer`` sees to it
that no failure goes unnoticed. In a run of one process each of them does nothing.
"""
