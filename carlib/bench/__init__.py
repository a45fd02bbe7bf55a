"""Time ours against rivals in one process (`carlib bench`), and what networks take (`carlib models --measure`)."""
