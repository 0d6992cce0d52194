"""What every positional encoding obeys."""
