"""Files that stand in a CUDA home beside links to NVIDIA's: headers and an ``nvcc`` that Jittor 1.3.11.0 expects."""
