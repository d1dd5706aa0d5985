"""Images: decoding and writing files, value ranges, grids."""
