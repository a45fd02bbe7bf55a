"""What training a run takes before it is begun: the floating point operations of its updates, counted, not run."""

from functools import cache

from carlib import runs


def operations(run: runs.Run) -> int:
    """Multiplications and additions of one update: forward and backward of every network, on the whole batch.

    Counted by PyTorch on tensors that have a shape and no content: matrix products and convolutions, which is nearly
    everything, not activations, the resampling operator and the optimizer. A frozen resampler has no backward.
    """
    roles = tuple((role, tuple(sorted(spec.items()))) for role, spec in run.networks().items())
    frozen, learned = run.resampler_from is not None, run.learns_downscaling
    return run.batch * _of_one(roles, frozen, learned, run.scale, run.patch[run.scale])


@cache
def _of_one(roles, frozen, learned, scale, side):
    """Of one patch."""
    import torch
    from torch import nn
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils.flop_counter import FlopCounterMode

    from carlib import models
    from carlib.run_networks import Rescaler

    networks = nn.ModuleDict({role: models.create(**dict(spec)) for role, spec in roles})
    if frozen:
        networks["resampler"].requires_grad_(False)
    with FakeTensorMode(allow_non_fake_inputs=True), FlopCounterMode(display=False) as counter:
        hr = torch.empty(1, 3, side, side)
        lr = None if learned else torch.empty(1, 3, side // scale, side // scale)
        sr = Rescaler(networks, alpha=1.0)(hr, lr).sr
        sr.mean().backward()
    return counter.get_total_flops()


def projected(frame, profile=None, tflops=100.0):
    """A list of runs (`overview.table`) with two columns more.

    Args:
        frame:  DataFrame with a column run.
        tflops: operations per second that the device sustains, in 1e12; `carlib bench train` measures it.
    Returns:
        the same with PFLOP (1e15 operations of the whole training) and hours (at that rate).
    Raises:
        ValueError: tflops is not above 0, or the profile trains nothing.
    """
    profile = runs.profile(profile)
    if not tflops > 0:
        raise ValueError(f"{tflops} TFLOP/s is no rate: it must be above 0")
    if profile["train"] is None:
        raise ValueError(f"profile {profile['name']} trains nothing: use --profile mini or paper")
    from tqdm import tqdm

    names = tqdm(frame.run, desc="counting operations", unit="run", leave=False)
    wanted = (runs.get(name, profile["name"]) for name in names)
    total = [operations(run) * run.steps for run in wanted]
    hours = [count / (tflops * 1e12) / 3600 for count in total]
    return frame.assign(PFLOP=[count / 1e15 for count in total], hours=hours)
