"""From the text of an expression in a policy to a typed one, or to what is wrong with it and where."""
