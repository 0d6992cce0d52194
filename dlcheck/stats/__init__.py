"""Statistical claims with a known false-alarm rate."""
