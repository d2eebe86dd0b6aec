"""SINT++: hard positives for SINT, generated and occluded."""
