"""Templates of workspaces and of whole organisations, and what agents find in /configs."""
