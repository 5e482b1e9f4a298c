"""Annotations as other programs give them back, each format in a module of its own."""
