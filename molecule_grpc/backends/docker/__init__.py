"""Workspaces in containers of one Docker engine."""
