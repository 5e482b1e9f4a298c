"""What a run will take, from a trial of a few of its images."""
