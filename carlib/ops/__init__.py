"""The operators: resampling, quantisation, resizing. They know nothing else of carlib."""
