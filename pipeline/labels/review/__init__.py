"""What people did to the boxes of a run."""
