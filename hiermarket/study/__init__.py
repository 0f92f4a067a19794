"""Many feeders under one TSO; the only door to dask."""
