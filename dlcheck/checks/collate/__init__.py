"""Claims about collation: a batch is its rows, in order."""
