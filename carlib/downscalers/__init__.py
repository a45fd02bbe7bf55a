"""The classical downscalers that the paper compares with, one file each. `carlib.downscale` is their checked door."""
