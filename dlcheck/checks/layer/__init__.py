"""Claims about modules: parameters, modes, state, rows of a batch."""
