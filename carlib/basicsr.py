"""BasicSR's layout of EDSR and RCAN, of which many public weights are; their own keys are those of the authors' code.

conv_first, body.i.conv{1,2} (RCAN: body.g.residual_group.b.rcab.{0, 2, 3.attention.1, 3.attention.3} and body.g.conv),
conv_after_body, upsample.{0[,2]}, conv_last. The mean colour and the range (img_range, 255 unless its options say
otherwise) are in the code and not in the file. Its MSRResNet and RRDB have the keys of our networks.
"""

import re

from carlib import models


def renamed(model, state, value_range=None):
    """`state` of BasicSR's EDSR or RCAN under our keys, with the mean shifts it implies; any other as it is.

    Args:
        value_range: BasicSR's img_range; None: 255.
    """
    if type(model) not in (models.EDSR, models.RCAN) or "conv_after_body.weight" not in state:
        return state
    last = len(model.body) - 1
    rules = [
        (r"conv_first", "head.0"),
        (r"conv_last", "tail.1"),
        (r"conv_after_body", f"body.{last}"),
        (r"upsample\.(\d+)", r"tail.0.\1"),
        (r"body\.(\d+)\.conv1", r"body.\1.body.0"),
        (r"body\.(\d+)\.conv2", r"body.\1.body.2"),
        (r"body\.(\d+)\.residual_group\.(\d+)\.rcab\.(\d+)", r"body.\1.body.\2.body.\3"),
        (r"body\.(\d+)\.residual_group\.(\d+)\.rcab\.3\.attention\.1", r"body.\1.body.\2.body.3.conv_du.0"),
        (r"body\.(\d+)\.residual_group\.(\d+)\.rcab\.3\.attention\.3", r"body.\1.body.\2.body.3.conv_du.2"),
    ]
    if isinstance(model, models.RCAN):
        rules.append((r"body\.(\d+)\.conv", rf"body.\1.body.{len(model.body[0].body) - 1}"))
    return {_renamed(key, rules): value for key, value in state.items()} | _shifts(value_range or 255)


def _renamed(key, rules):
    layer, dot, kind = key.rpartition(".")
    for pattern, ours in rules:
        if found := re.fullmatch(pattern, layer):
            return found.expand(ours) + dot + kind
    return key


def _shifts(white):
    """The mean shifts of images in 0..white."""
    shifts = {"sub_mean": models.MeanShift(-1), "add_mean": models.MeanShift(+1)}
    whites = {"weight": 1, "bias": white}
    return {f"{name}.{key}": value * whites[key] for name, s in shifts.items() for key, value in s.state_dict().items()}
