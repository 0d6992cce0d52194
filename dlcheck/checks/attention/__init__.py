"""What every attention obeys, whatever its weights."""
