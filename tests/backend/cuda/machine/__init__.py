"""A CUDA machine for tests: the project's and Jittor's CUDA path, run on a processor.

Nothing of Jittor or of this project is changed for it; what a GPU would be asked is asked of files of this folder.

* **log**: every launch, copy, allocation and synchronisation is recorded (``runtime.cc``, ``Recording``). With
  ``Machine.run(..., computes=False)`` nothing else is done, so a training step of any size takes seconds.
* **compute**: Jittor's operators are executed. ``nvcc.py`` takes the place of nvcc: it turns the CUDA source of an
  operator into C++ (``translate.py``), in which the threads of a block are fibers that take turns in random order at
  every barrier (``device.h``, ``fibers.cc``). cuBLAS, cuDNN and cuRAND are plain C++ that refuses the combinations of
  types and algorithms which cuDNN refuses (``cudnn.cc``, ``libraries.cc``).
* **threads**: kernels of our own under ThreadSanitizer, to which each of these fibers is a thread (``sanitizers.h``),
  AddressSanitizer and UBSan; ``tests/backend/cuda/test_threads.py``.

What it can't show: time, the rounding of ``--use_fast_math`` and of tensor cores, whether cuDNN supports a case that
its documentation promises, and faults of NVIDIA's libraries and drivers.

The first process on a new machine compiles Jittor's core, in the units of ``segnext/backend/core.py``, and its CUDA
extensions: more than four minutes of CPU time, which ``make check`` does not spend. The folder, in
``cache_home()/cuda-machine``, keeps them. Operators are compiled anew when a file of this folder or a shim changes.
"""

from tests.backend.cuda.machine.machine import HERE, Machine, build_driver
from tests.backend.cuda.machine.programs import ProgramBuilder
from tests.backend.cuda.machine.recording import Launch, Recording
from tests.backend.cuda.machine.translate import translate

__all__ = ["HERE", "Launch", "Machine", "ProgramBuilder", "Recording", "build_driver", "translate"]
