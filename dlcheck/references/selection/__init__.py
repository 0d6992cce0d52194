"""How models are chosen and judged: splits, cross-validation, standardization, early stopping."""
