"""A finished output in the format of another program."""
