"""What is wrong with a policy beyond single fields, with a remedy each."""
