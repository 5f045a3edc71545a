"""Choices that a policy asks for, as decision trees: walked in the terminal, drawn for the docs."""
