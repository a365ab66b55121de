"""Images: where they come from, how they are split, shuffled and augmented."""
