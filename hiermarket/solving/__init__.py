"""The only callers of a solver: status to error, independent blocks, hot starts."""
