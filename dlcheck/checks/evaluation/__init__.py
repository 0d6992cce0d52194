"""Claims about evaluation: a number that depends on model and rows, and on nothing else."""
