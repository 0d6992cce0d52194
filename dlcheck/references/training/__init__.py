"""Networks and training loops, by hand and by autograd."""
