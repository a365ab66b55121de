"""What check_layers.py needs: test cases, reference results, their comparison, and failures in words."""
