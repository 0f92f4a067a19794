"""PyPSA networks shipped with the package; SOURCES.md says where each number comes from."""
