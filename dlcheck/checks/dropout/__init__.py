"""Claims about dropout: which elements fall, what becomes of the others, and what that does."""
