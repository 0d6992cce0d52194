"""Claims about losses: where they are least, how they grow, what they average, what they ignore."""
