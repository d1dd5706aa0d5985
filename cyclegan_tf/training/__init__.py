"""Training a run: the loop, its workers, and what a run writes."""
