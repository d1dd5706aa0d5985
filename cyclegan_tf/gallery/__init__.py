"""The page of a run: index.html in its directory, which a browser opens from the disk."""
