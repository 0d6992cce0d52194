"""Claims about loaders: which rows a batch holds, and in which order."""
