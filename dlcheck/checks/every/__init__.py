"""Claims about every subject, whatever its kind."""
