"""Translating with a trained generator: images, files, videos, any size."""
