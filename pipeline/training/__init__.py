"""The network fine-tuned on annotations, to a checkpoint that a run takes."""
