"""What every recurrent network obeys."""
