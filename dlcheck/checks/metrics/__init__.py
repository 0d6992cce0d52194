"""Claims about metrics: scores of predictions, distances of feature sets, similarity of images."""
