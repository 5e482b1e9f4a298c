"""A finished output, used: proven, measured, shown, chosen from, exported."""
