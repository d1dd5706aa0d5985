"""What trains: networks, losses, optimizers and the compiled step of each model."""
