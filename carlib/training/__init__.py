"""What `carlib.train` is made of: patches, objective, loop, checkpoints; and short trials of other numbers."""
