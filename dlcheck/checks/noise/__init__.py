"""What added noise does to a regression, and how tasks and uses of a weight add up."""
