"""Backups of an installation: database, files and the operator's token, in one directory."""
