"""The networks: Keras layers, blocks, builders, and the registry of builders by name."""
