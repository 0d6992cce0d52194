"""Claims about scores of predictions."""
