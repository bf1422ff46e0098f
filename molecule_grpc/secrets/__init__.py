"""Secrets that agents are started with: sealed where they are stored, inherited along the tree."""
