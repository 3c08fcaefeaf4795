"""Training: the loop, the code bank, the optimizer, and the run's folder."""
