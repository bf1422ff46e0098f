"""SQL of the slice."""
