"""What every penalty on weights satisfies, and what its norm, strength and prior promise."""
