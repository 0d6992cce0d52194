"""Claims about optimizers: what a step does, what decays, what is kept, where they lead."""
