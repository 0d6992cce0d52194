"""Claims about learning-rate schedules: the rate at every step, and where it goes on."""
