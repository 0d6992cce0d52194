"""Which batch size to use, and why: time, memory, gradient noise and convergence, measured."""
