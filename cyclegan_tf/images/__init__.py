"""Images: decoding and encoding, value ranges, grids, and image files with their metadata."""
