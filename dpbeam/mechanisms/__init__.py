"""What is randomised, and only that: the mechanisms as values, their noise, their selections."""
