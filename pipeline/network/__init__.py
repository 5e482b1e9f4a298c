"""Pixels to boxes, with torch and torchvision alone."""
