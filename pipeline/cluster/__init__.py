"""Where processes run, and what they tell each other."""
