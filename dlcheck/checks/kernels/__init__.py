"""Claims about the GPU kernels of a subject."""
