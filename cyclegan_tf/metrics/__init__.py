"""Measures of translated images, and the networks that some measures use."""
