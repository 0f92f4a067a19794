"""Results of all stages as one labelled tree: netCDF, indicators, tables."""
