"""Measures of generated images: scores of predictions, distances of feature sets, similarity."""
