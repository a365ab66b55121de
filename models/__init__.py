"""The two networks and the layers that make them fast."""
