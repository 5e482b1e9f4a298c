"""Frames of videos: which there are, which are wanted, and their pixels."""
