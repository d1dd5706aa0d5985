"""Images of two domains: where they come from (`sources`, `tfds`) and how they become batches (`pipeline`)."""
