"""Images of two domains: where they come from (`sources`, `folders`, `tfds`, `shards`) and how they become training
batches (`pipeline`)."""
