"""What the commands share: from a YAML file to a run directory, and from run directories to answers."""
