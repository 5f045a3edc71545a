"""What people see: results, report, manifest."""
