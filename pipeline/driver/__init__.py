"""The command's own process: a run from its start to its summary."""
