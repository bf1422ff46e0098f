"""From a directory or an archive to files in memory, bounded and without a way out."""
