"""What may be released: the policy, its schema and its digest."""
