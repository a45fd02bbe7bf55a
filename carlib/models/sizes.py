"""The numbers of every network at the sizes at which the project trains it.

"paper": the published configuration. "base": the same architecture for one GPU, at most about EDSR 16 x 64. "mini": for
two CPU cores, about EDSR 4 x 32. What their arithmetic costs: `carlib models`.
"""

SIZES = {
    "resampler": {"mini": {"width": 32, "blocks": 2}, "base": {"width": 128}, "paper": {}},
    "edsr": {
        "mini": {"blocks": 4, "channels": 32, "res_scale": 1.0},
        "base": {"blocks": 16, "channels": 64, "res_scale": 1.0},
        "paper": {"blocks": 32, "channels": 256, "res_scale": 0.1},
    },
    "bicubic": {"mini": {}, "base": {}, "paper": {}},
    # Learned downscalers of Table 4, and IRN, which is both
    "cnn-cr": {
        "mini": {"depth": 8, "channels": 32},
        "base": {"depth": 10, "channels": 64},
        "paper": {"depth": 10, "channels": 64},
    },
    "tad": {
        "mini": {"blocks": 3, "channels": 32},
        "base": {"blocks": 3, "channels": 64},
        "paper": {"blocks": 3, "channels": 64},
    },
    "irn": {
        "mini": {"blocks": 4, "growth": 8, "clamp": 2.0, "noise": 0.0},
        "base": {"blocks": 8, "growth": 16, "noise": 0.0},
        "paper": {"blocks": 8, "growth": 32},
    },
    # Table 2
    "srdensenet": {
        "mini": {"blocks": 4, "layers": 4, "growth": 8, "bottleneck": 32},
        "base": {"blocks": 8, "layers": 4, "growth": 16, "bottleneck": 64},
        "paper": {"blocks": 8, "layers": 8, "growth": 16, "bottleneck": 256},
    },
    "ddbpn": {
        "mini": {"stages": 3, "channels": 12, "features": 32},
        "base": {"stages": 4, "channels": 40, "features": 128},
        "paper": {"stages": 7, "channels": 64, "features": 256},
    },
    "rdn": {
        "mini": {"blocks": 3, "layers": 3, "growth": 16, "channels": 32},
        "base": {"blocks": 8, "layers": 4, "growth": 32, "channels": 64},
        "paper": {"blocks": 16, "layers": 8, "growth": 64, "channels": 64},
    },
    "rcan": {
        "mini": {"groups": 2, "blocks": 2, "channels": 32, "reduction": 8},
        "base": {"groups": 4, "blocks": 4, "channels": 64, "reduction": 16},
        "paper": {"groups": 10, "blocks": 20, "channels": 64, "reduction": 16},
    },
    # Table 4
    "srcnn": {
        "mini": {"channels": [32, 16], "sizes": [9, 5, 5]},
        "base": {"channels": [64, 32], "sizes": [9, 5, 5]},
        "paper": {"channels": [64, 32], "sizes": [9, 5, 5]},
    },
    "vdsr": {
        "mini": {"depth": 8, "channels": 16},
        "base": {"depth": 12, "channels": 64},
        "paper": {"depth": 20, "channels": 64},
    },
    "srresnet": {
        "mini": {"blocks": 4, "channels": 32},
        "base": {"blocks": 16, "channels": 64},
        "paper": {"blocks": 16, "channels": 64},
    },
    "msrresnet": {
        "mini": {"blocks": 4, "channels": 32},
        "base": {"blocks": 16, "channels": 64},
        "paper": {"blocks": 16, "channels": 64},
    },
    "drrn": {
        "mini": {"units": 4, "channels": 16},
        "base": {"units": 9, "channels": 48},
        "paper": {"units": 25, "channels": 128},
    },
    "memnet": {
        "mini": {"memories": 2, "units": 2, "channels": 16},
        "base": {"memories": 3, "units": 3, "channels": 48},
        "paper": {"memories": 6, "units": 6, "channels": 64},
    },
    "dncnn": {
        "mini": {"depth": 8, "channels": 16},
        "base": {"depth": 12, "channels": 64},
        "paper": {"depth": 20, "channels": 64},
    },
    "lapsrn": {
        "mini": {"depth": 4, "channels": 32},
        "base": {"depth": 10, "channels": 64},
        "paper": {"depth": 10, "channels": 64},
    },
    "zssr": {
        "mini": {"depth": 8, "channels": 16},
        "base": {"depth": 8, "channels": 64},
        "paper": {"depth": 8, "channels": 64},
    },
    "carn": {"mini": {"channels": 20}, "base": {"channels": 64}, "paper": {"channels": 64}},
    "carn-m": {
        "mini": {"channels": 32, "groups": 4, "shared": True},
        "base": {"channels": 64, "groups": 4, "shared": True},
        "paper": {"channels": 64, "groups": 4, "shared": True},
    },
    "srram": {
        "mini": {"blocks": 4, "channels": 32, "reduction": 8},
        "base": {"blocks": 10, "channels": 64, "reduction": 16},
        "paper": {"blocks": 10, "channels": 64, "reduction": 16},
    },
    "rrdb": {
        "mini": {"blocks": 1, "channels": 24, "growth": 8},
        "base": {"blocks": 3, "channels": 48, "growth": 24},
        "paper": {"blocks": 23, "channels": 64, "growth": 32},
    },
    "cnn-sr": {
        "mini": {"depth": 8, "channels": 16},
        "base": {"depth": 12, "channels": 64},
        "paper": {"depth": 20, "channels": 64},
    },
    "tau": {
        "mini": {"blocks": 3, "channels": 32},
        "base": {"blocks": 3, "channels": 64},
        "paper": {"blocks": 3, "channels": 64},
    },
}
