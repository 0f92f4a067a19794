"""Grid data in, checked labelled Dataset, linear equations on a linopy model."""
