"""Commands: train, evaluate, track; configuration and reports."""
