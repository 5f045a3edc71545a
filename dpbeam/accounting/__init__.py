"""What a run costs: requests in, calibrated mechanisms and their certificate out."""
