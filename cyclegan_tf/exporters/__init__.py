"""Trained generators in the formats of other runtimes, each run in its own runtime before it is left on disk."""
