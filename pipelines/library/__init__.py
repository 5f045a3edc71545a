"""What `dpbeam` offers to programs and notebooks: plans that show themselves, releases made and read."""
