"""The loop of a run, and what it does beside the steps."""
