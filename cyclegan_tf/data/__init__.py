"""Images of two domains: where they come from (`sources`, `tfds_source`) and how they become batches (`pipeline`)."""
