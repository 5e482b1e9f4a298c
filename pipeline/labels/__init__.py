"""What is done with a finished output. Nothing in here needs Ray or torch."""
