"""What stands below OUTPUT: its names, its formats, and what they say of the run."""
