"""Files: access to local and remote file systems, and atomic writes."""
