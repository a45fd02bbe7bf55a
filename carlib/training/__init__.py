"""What `carlib.train` is made of: patches, objective, loop, checkpoints, cost."""
