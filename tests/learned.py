"""Networks and images for the tests of learned downscalers."""

import torch

from carlib import models


def image(*shape, seed=0, dtype=torch.float32):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def mini(name, scale=2, **options):
    torch.manual_seed(1)
    return models.create(name, scale, "mini", **options)


def trained_looking(network, std=0.05):
    """The network away from its first state, where IRN is a Haar transform and CNN-CR bicubic."""
    draw = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += std * torch.randn(parameter.shape, generator=draw, dtype=parameter.dtype)
    return network
