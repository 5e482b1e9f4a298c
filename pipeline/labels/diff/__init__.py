"""Two finished outputs over the same images, compared: `comparison.compare` is where it begins."""
