"""What steps need to travel safely: coders, containment of errors, control totals, staging, progress."""
