"""Measures of translated images, one file each."""
