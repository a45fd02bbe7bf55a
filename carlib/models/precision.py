"""Networks that were brought to half precision as a whole (`network.bfloat16()`) and take images in single."""

from contextlib import nullcontext

import torch


def in_own_precision(network, device):
    """A context in which a network of half-precision weights computes in them; of others nothing changes.

    Images are in single precision inside some networks, which convolutions of half precision refuse.
    """
    dtype = next((weight.dtype for weight in network.parameters()), torch.float32)
    half = dtype in (torch.bfloat16, torch.float16)
    return torch.autocast(device.type, dtype) if half else nullcontext()
