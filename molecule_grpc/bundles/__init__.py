"""Bundles: a workspace with everything below it, as one document to carry elsewhere."""
