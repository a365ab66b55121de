"""What a trained run predicts, how well, and how runs compare."""
