"""Training data and benchmarks."""
