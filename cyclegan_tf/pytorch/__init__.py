"""The authors' PyTorch weights and their files."""
