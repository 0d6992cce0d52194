"""Claims about cross-validation: folds start afresh, and scores are of rows that were not seen."""
