"""Claims about splits of rows into train, validation and test."""
