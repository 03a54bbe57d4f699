"""CUDA as Jittor 1.3.11.0 wants it, out of what a current machine has.

Jittor expects CUDA ≤ 12 with cuDNN 8 in one folder. ``driver`` tells whether a GPU can be used, ``toolkit`` finds the
CUDA compilers of the machine, ``pieces`` says what a complete CUDA 13 consists of and where it is, ``home`` assembles
the folder from links, ``environment`` holds the variables. Only the standard library; nothing here imports Jittor.
"""
