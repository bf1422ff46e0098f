"""Approvals: agents ask people before they act."""
