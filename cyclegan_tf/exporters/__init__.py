"""Exports trained generators to other formats; keeps a file only after verifying it in the runtime of its format."""
