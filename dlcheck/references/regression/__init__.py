"""Penalised regressions and the algorithms that solve them."""
