"""Schedules: prompts that workspaces are given at times that cron expressions name."""
