"""What is asked: the values that stand between whoever asks and whatever answers."""
