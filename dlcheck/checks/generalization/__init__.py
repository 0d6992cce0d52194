"""What regularization does to the gap between training and test, over forty data sets at once."""
