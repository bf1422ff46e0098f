"""Workspaces in pods of a Kubernetes cluster."""
