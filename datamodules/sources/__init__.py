"""Training sources: one reader per training set."""
