"""Other doors, and other engines: what joins dpbeam to programs written for something else."""
