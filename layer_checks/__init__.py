"""What check_layers.py does: the NumPy layers beside TensorFlow, PyTorch and kept answers."""
