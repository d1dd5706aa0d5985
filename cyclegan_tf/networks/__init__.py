"""Networks: Keras layers, blocks, builders, and the registry of the builders by name."""
