"""A third-party package that registers networks, a loss and a model for tests."""
