"""From a configuration and images to a trained run."""
