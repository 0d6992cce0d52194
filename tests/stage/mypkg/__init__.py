"""What the pages of the documentation call the reader's own package."""
