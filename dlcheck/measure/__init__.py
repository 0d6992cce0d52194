"""Time and memory, with the uncertainty of each figure."""
