"""Reading and writing network weights: our own safetensors, and the public checkpoint layouts.

Own files are safetensors whose header holds, as JSON under "carlib", what made them: run, profile, commit, data, steps,
seed, PSNR, and under "networks" how to build each network again. Foreign .pth files are read with weights_only=True.
The keys of a network are those of its main public layout; where there are others, its `from_public` renames them
(BasicSR's of EDSR and RCAN: `carlib.basicsr`).
Files that are no PyTorch checkpoints (.mat, .caffemodel, .h5) are not read: where one is the original, the network's
docstring says how its arrays become a state dict.
"""

import inspect
import json
import math
import re
from pathlib import Path

import torch
from torch import nn

from carlib import basicsr, models, provenance
from carlib.models.layers import at_least_float32
from carlib.results import write_bytes

# What torch and Python raise for numbers of which no network can be made (-3 channels, a scale of 1e400, ...).
_UNBUILDABLE = (ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError)
_ROLES = {"resampler": models.ResamplerNet, "downscaler": (models.CNNCR, models.TAD), "upscaler": nn.Module}
_WRAPPERS = ("state_dict", "model", "params_ema", "params")  # of two the first
_DEEPEST = 4  # wrappers around a state dict; a file can hold a dict that holds itself
_PREFIXES = re.compile(r"(module\.|_orig_mod\.)*")  # of DataParallel and torch.compile, either around the other
# What gives another result at another range of the image, whatever the biases.
_BOUND_TO_RANGE = (models.ResamplerNet, models.IRN, nn.BatchNorm2d, nn.InstanceNorm2d, nn.Sigmoid, nn.Tanh)


def save(model, path, metadata=None, *, dtype=torch.float16):
    """Write the model's trainable weights and buffers atomically as safetensors.

    Args:
        model:    an nn.Module, e.g. an nn.ModuleDict of "resampler" and "upscaler".
        path:     the file, *.safetensors: by this `load` knows its own.
        metadata: a JSON-able dict for the header (see the module).
        dtype:    of the stored floating-point numbers; half precision moves PSNR by less than 0.001 dB.
    Raises:
        ValueError: the file has another name or cannot be written, `dtype` has no fractions, or a weight is not finite
            in it.
    """
    if Path(path).suffix != ".safetensors":
        raise ValueError(f"{path} would not be known for weights of carlib: name a .safetensors file")
    if dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        raise ValueError(f"dtype={dtype!r} cannot keep weights: use torch.float16, bfloat16, float32 or float64")
    from safetensors.torch import save as serialise

    state = {k: v.detach().cpu().to(dtype if v.is_floating_point() else v.dtype) for k, v in model.state_dict().items()}
    constants = _constants(model)
    state = {k: v.contiguous() for k, v in state.items() if k not in constants}
    if broken := next((k for k, v in state.items() if not torch.isfinite(v).all()), None):
        raise ValueError(f"weight {broken} is not finite in {dtype}: nothing was written to {path}")
    # In memory first: on a full disk save_file raises an error of its own, which `atomic` would not recognise.
    write_bytes(path, serialise(state, metadata={"carlib": json.dumps(metadata or {}, sort_keys=True)}))


def load(model, path, *, value_range=None):
    """Load a checkpoint into `model`, strictly; own files and the public layouts that the network's docstring names.

    Understood: a "module." prefix (DataParallel) or "_orig_mod." (torch.compile); a dict wrapped in "state_dict",
    "model", "params_ema" or "params", or the one dict of tensors of a training checkpoint; any precision; layouts told
    apart by their keys (the network's `from_public`); frozen mean shifts (constants here, compared and left out);
    checkpoints at another range, whose biases are divided by it (exact for networks of convolutions and ReLU; RCAN has
    a rule of its own); own files of a whole run, of which a ResamplerNet takes "resampler", CNN-CR and TAD take
    "downscaler" and any other network "upscaler".

    Args:
        value_range: what white was in the training of a foreign file: 1, 255, or 2 for images less the mean over 127.5
                     (krasserm/super-resolution). None reads 1 or 255 from the file's mean shift; where the file has
                     none it takes the network's `public_range` (2 of EDSR), or 1; of BasicSR's EDSR and RCAN 255.
    Returns:
        the file's metadata dict ({} for foreign files).
    Raises:
        ValueError: the file is missing, truncated, holds code or numbers that are not finite, or does not fit the
            network; the model stays as it was.
    """
    if value_range is not None and not (isinstance(value_range, int | float) and 0 < value_range < math.inf):
        raise ValueError(f"value_range={value_range!r} is not a number above 0, such as 1 or 255, or None")
    state, metadata = _read(path)
    state = basicsr.renamed(model, _strip(state), value_range)
    role = next(role for role, network in _ROLES.items() if isinstance(model, network))
    whole_run = tuple(f"{r}." for r in _ROLES)
    own = any(k.startswith(whole_run) for k in model.state_dict())  # an nn.ModuleDict takes all of a run
    if not own and any(k.startswith(whole_run) for k in state):
        state = {k.removeprefix(f"{role}."): v for k, v in state.items() if k.startswith(f"{role}.")}
        if not state:
            raise ValueError(f"{path} holds no {role}: it was trained for something else")
    state = model.from_public(state) if hasattr(model, "from_public") else state
    if value_range is None:
        value_range = _range_of(model, state, ours=metadata is not None)
    constants = _constants(model)
    _check_constants(constants, state, value_range, path)
    if value_range != 1:
        state = _to_range_1(model, state, value_range, path)
    state = {k: v for k, v in state.items() if k not in constants}
    _check_fit(model, state, constants, path)
    model.load_state_dict(state, strict=False)
    return metadata or {}


def load_run(path):
    """Build the networks of a trained run and load them.

    Returns:
        (networks, metadata): networks is an nn.ModuleDict, in eval mode, with "upscaler" and, for CAR, "resampler", for
        CNN-CR and TAD "downscaler"; IRN's "upscaler" is both.
    Raises:
        ValueError: as `load`, or the file does not say how to build its networks.
    """
    metadata = header(path)
    if not metadata.get("networks"):
        raise ValueError(f"{path} does not say which networks it holds: load it with carlib.weights.load(model, path)")
    try:
        networks = nn.ModuleDict({role: models.create(**options) for role, options in metadata["networks"].items()})
    except _UNBUILDABLE as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path} does not say how to build its networks: {reason}") from error
    for network in networks.values():
        if any(True for _ in network.parameters()):
            load(network, path)
    provenance.used_weights(path, metadata)
    return networks.eval(), metadata


def header(path) -> dict:
    """The metadata that `read` gives, of a .safetensors file without reading its tensors.

    Raises:
        ValueError: as `read`.
    """
    path = Path(path)
    if not path.is_file() or path.suffix != ".safetensors":
        return read(path)[1]
    return _read_safetensors(path, tensors=False)[1] or {}


def read(path):
    """(state dict of CPU tensors, metadata) of a .safetensors, .pth, .pt or .ckpt file; nothing in it is executed.

    Raises:
        ValueError: the file is missing, unreadable, truncated, or not a plain state dict.
    """
    state, metadata = _read(path)
    return state, metadata or {}


def _read(path):
    """`read`, but the metadata of a foreign file is None."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"no weights at {path}")
    return _read_safetensors(path) if path.suffix == ".safetensors" else (_read_torch(path), None)


def _read_safetensors(path, tensors=True):
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            told = (file.metadata() or {}).get("carlib")
            metadata = None if told is None else json.loads(told)
            state = {key: file.get_tensor(key) for key in file.keys()} if tensors else {}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not a whole safetensors file ({error}): copy or download it again") from error
    if told is not None and not isinstance(metadata, dict):
        raise ValueError(f'{path} has no dict as "carlib" in its header, but a {type(metadata).__name__}')
    return state, metadata


def _read_torch(path):
    import pickle

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(f"{path} is damaged or holds more than tensors, and is refused: get a state dict") from error
    except Exception as error:  # what torch raises for a damaged file is not one family (IndexError, KeyError, ...)
        told = "is not a whole PyTorch checkpoint: give a file of weights (.safetensors, .pth), or download it again"
        raise ValueError(f"{path} {told}") from error
    content = _unwrapped(content)
    if not _is_state(content):
        raise ValueError(f"{path} is not a state dict of tensors")
    return content


def _unwrapped(content):
    """The network's state dict of a training checkpoint, which has an epoch, an optimizer, ... beside it."""
    for _ in range(_DEEPEST):
        if not isinstance(content, dict) or _is_state(content):
            break
        inner = [content.get(wrapper) for wrapper in _WRAPPERS]
        named = [value for value in inner if isinstance(value, dict) and value]
        others = [value for value in content.values() if _is_state(value)]
        if not named and len(others) != 1:
            break
        content = (named or others)[0]
    return content


def _is_state(content):
    return (
        isinstance(content, dict)
        and bool(content)
        and all(isinstance(key, str) and _is_plain(value) for key, value in content.items())
    )


def _is_plain(value):
    """Whether it is a tensor as `load_state_dict` copies it into another's place: dense, real, with numbers in it."""
    plain = isinstance(value, torch.Tensor) and value.layout == torch.strided and not value.is_meta
    return plain and not value.is_quantized and not value.is_complex()


def _strip(state):
    return {_PREFIXES.sub("", key, count=1): value for key, value in state.items()}


def _range_of(model, state, ours):
    """What white is to a file: as its mean shifts tell; without them 1 of `ours`, else the network's `public_range`."""
    shifts = [value for key, value in state.items() if key.endswith(("sub_mean.bias", "add_mean.bias"))]
    if shifts:
        return 255 if any(value.numel() and value.abs().max() > 2 for value in shifts) else 1
    return 1 if ours else getattr(model, "public_range", 1)


def _constants(model):
    """Key -> value of the model's frozen mean shifts."""
    shifts = {name: module for name, module in model.named_modules() if isinstance(module, models.MeanShift)}
    return {f"{name}.{key}": value for name, shift in shifts.items() for key, value in shift.state_dict().items()}


def _check_constants(constants, state, value_range, path):
    """A mean shift is a constant here; a file in which it was trained, or another one, is another function."""
    for key in constants.keys() & state.keys():
        expected = constants[key].cpu().float() * (value_range if key.endswith("bias") else 1)
        found = state[key].float()
        if found.shape != expected.shape or not torch.allclose(found, expected, atol=1e-3 * value_range):
            raise ValueError(f"{path}: {key} is not the mean colour of DIV2K that the network has: it does not fit")


def _to_range_1(model, state, value_range, path):
    """The same function of images in 0..1 as `state` is of images in 0..value_range."""
    state = {key: at_least_float32(value) for key, value in state.items()}
    if hasattr(model, "to_range_1"):
        return model.to_range_1(state, value_range)
    if any(isinstance(module, _BOUND_TO_RANGE) for module in model.modules()):
        name = type(model).__name__
        raise ValueError(f"{path} is at range {value_range}, a {name} is at range 1 and cannot be converted")
    return {k: v / value_range if k.endswith(".bias") else v for k, v in state.items()}


def _check_fit(model, state, constants, path):
    expected = {k: v for k, v in model.state_dict().items() if k not in constants}
    # A counter that PyTorch before 0.4.1 did not keep, and that decides nothing.
    needed = {k for k in expected if not k.endswith(".num_batches_tracked")}
    missing, surplus = sorted(needed - state.keys()), sorted(state.keys() - expected.keys())
    shapes = [k for k in expected.keys() & state.keys() if expected[k].shape != state[k].shape]
    problems = []
    if missing:
        problems.append(f"{len(missing)} weights are missing, such as {missing[0]}")
    if surplus:
        problems.append(f"{len(surplus)} are not in the network, such as {surplus[0]}")
    if shapes:
        key = min(shapes)
        found, wanted = tuple(state[key].shape), tuple(expected[key].shape)
        problems.append(f"{len(shapes)} have another shape, such as {key} {found} instead of {wanted}")
    if broken := sorted(k for k in state if not torch.isfinite(state[k]).all()):
        problems.append(f"{len(broken)} are not finite, such as {broken[0]}")
    if problems:
        options = _options(model) if missing or surplus or shapes else ""
        raise ValueError(f"{path} does not fit {type(model).__name__}: {'; '.join(problems)}{options}")


def _options(model):
    """What else the network can be made with: some public layouts need an option, which its docstring names."""
    if isinstance(model, nn.ModuleDict):
        return ""
    names = [name for name in inspect.signature(type(model)).parameters if name != "scale"]
    return f" (its options: {', '.join(names)})" if names else ""
