"""What a run costs: its mechanisms calibrated together, checked against the query, and certified."""
