"""The SQL of secrets."""
