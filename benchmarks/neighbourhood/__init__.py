"""The parties of `benchmarks.neighbours`: the victim, and each attacker, a process of its own."""
