"""Time ours against rivals, each case in one process (`carlib bench`)."""
