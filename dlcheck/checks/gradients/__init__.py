"""Claims about derivatives."""
