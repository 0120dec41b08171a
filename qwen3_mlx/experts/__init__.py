"""Experts that stay on disk and are read into a fixed set of slots when the router asks."""
