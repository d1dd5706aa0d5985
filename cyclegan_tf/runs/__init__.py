"""A run directory: its files, checkpoints, reports, and the page that shows it."""
