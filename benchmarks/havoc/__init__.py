"""The agents of `benchmarks.chaos`, and the checker of what was promised to them."""
