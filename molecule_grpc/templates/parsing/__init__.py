"""From the text of a template to values."""
