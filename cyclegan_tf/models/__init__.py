"""Models: networks that train together, with their losses, optimizers and compiled training step."""
