"""Claims about preprocessing that is fitted on train and applied to train and test."""
