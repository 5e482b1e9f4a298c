"""The way of an image: fetched, decoded, detected, written."""
