"""Workspaces on a real cluster: API server, controllers, scheduler and a node."""
