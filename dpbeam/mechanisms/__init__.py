"""What is randomised: bounding, metrics, partition selection and noise, as pure functions on Arrow and NumPy."""
