"""Claims about clipping: the limit is kept, the direction too, and what is small stays."""
