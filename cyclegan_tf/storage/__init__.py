"""Files: local and remote ones, and writing beside and renaming."""
