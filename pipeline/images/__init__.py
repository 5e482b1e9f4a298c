"""Encoded bytes to upright pixels."""
