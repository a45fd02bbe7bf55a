"""The declared runs: params.yaml read, merged and checked into one flat `Run` that training and evaluation take."""

import copy
import dataclasses
import difflib
import functools
import re
import types
import typing
from dataclasses import dataclass, field

from carlib import method_networks, results, run_checks

PROFILES = ("smoke", "demo", "mini", "paper")
STARTS = ("warm_start", "resampler_start", "resampler_from")  # parameters that name a run, or file, with weights
_SEED = re.compile(r"(?P<run>.+)-seed(?P<seed>[1-9]\d*)")  # the name of a declared run under another seed


@dataclass(frozen=True)
class Run:
    """Everything that decides a run's weights. Defaults and their sources are in params.yaml."""

    name: str
    profile: str
    downscaler: str  # trained: of method_networks.LEARNED; or a classical one of rescale.CLASSICAL
    upscaler: str  # of carlib.models.UPSCALERS; all are trained but "bicubic"; "irn" downscales as well
    scale: int
    size: str | dict  # "mini" | "base" | "paper" of every network, or network name -> its size
    loss: str = "l1"
    lambda_offset: float = 0.001
    offset_reading: str = "weighted"
    gamma_tv: float = 0.005
    tv_reading: str = "batch"
    penalties_after: float = 0.0  # share of the steps during which lambda_offset and gamma_tv count as 0
    guidance: float = 1.0  # of CNN-CR, TAD and IRN: weight of what ties LR to bicubic LR
    guidance_loss: str = "l2"
    distribution: float = 1.0  # of IRN: weight of z^2
    alpha: float = 1.0
    jpeg: list | None = None  # lowest and highest quality at which LR images are stored while training; None: lossless
    bit_price: float = 0.0  # in units of `loss`: of a bit per LR pixel of lossless JPEG 2000; with jpeg, of quality 50
    weighting: str = "clamp"
    taps: str = "symmetric"
    border: str = "replicate"
    kernel_size: int | None = None
    offsets: bool = True
    bound: float = 0.25
    local: int = 0
    guided_eps: float = 1e-5
    activation: str = "relu"
    prior_sigma: float | None = None  # LR pixels; None: the weighting's own prior (see ResamplerNet)
    head_scale: float | None = None  # None: the weighting's own (see ResamplerNet)
    learned_prior: bool = False
    resampler_width: int | None = None  # None: the size's
    resampler_blocks: int | None = None  # None: the size's
    seed: int = 0
    warm_start: str | None = None
    resampler_after: float = 0.0  # share of the steps during which the resampler stays as it began
    resampler_start: str | None = None  # a run whose resampler's weights to begin with, and to train on
    resampler_from: str | None = None  # a run whose resampler is taken and frozen; the upscaler alone is trained
    steps: int = 0
    image_steps: int = 0  # of ZSSR: training steps on each image that is measured, and none beforehand
    batch: int = 16
    grey: float = 0.0  # share of the patches that is shown without colours
    recolour: float = 0.0  # share of the others whose channels change places and whose saturation changes
    patch: dict = field(default_factory=lambda: {2: 96, 4: 192})  # scale -> HR pixels
    lr: float = 1e-4
    resampler_lr: float | None = None  # None: lr
    schedule: str = "constant"  # "constant", "one-cycle", "plateau"
    plateau_patience: int = 10  # validations without gain before the rate is halved
    adam_eps: float = 1e-6  # the paper's
    clip: float = 0.0  # largest gradient norm; 0 = none
    ema: float = 0.0  # decay of the average of the weights that is validated and kept; 0: the weights themselves
    precision: str = "32-true"  # "auto": bfloat16 autocast where the machine has it; "bf16-mixed"
    accumulate: int = 1  # parts in which a batch is computed, for devices that cannot hold it; 1 update all the same
    compile: bool = False  # torch.compile
    deterministic: bool = False  # refuse what gives other bits each time (matters on a GPU)
    train_sets: list = field(default_factory=list)
    validation_set: str = "demo"
    validation_images: int | None = None
    validation_crop: int | None = None  # centre crop, HR pixels
    validate_every: int = 500

    def networks(self) -> dict:
        """Role -> arguments of `carlib.models.create`."""
        made = {"upscaler": {"name": self.upscaler, "scale": self.scale, "size": self.size_of(self.upscaler)}}
        if self.downscaler == "car":
            options = (
                "kernel_size", "weighting", "taps", "border", "offsets", "bound", "local", "guided_eps", "activation",
                "prior_sigma", "head_scale", "learned_prior",
            )  # fmt: skip
            numbers = {"width": self.resampler_width, "blocks": self.resampler_blocks}  # None: the size's own
            made["resampler"] = {
                "name": "resampler",
                "scale": self.scale,
                "size": self.size_of("resampler"),
                **{option: getattr(self, option) for option in options},
                **{name: number for name, number in numbers.items() if number is not None},
            }
        elif self.learns_downscaling and self.downscaler != self.upscaler:  # IRN is one network for both
            made["downscaler"] = {
                "name": self.downscaler,
                "scale": self.scale,
                "size": self.size_of(self.downscaler),
            }
        return made

    def size_of(self, network: str) -> str:
        """The size of a network; one that `size` does not name has the size that all the named ones have.

        Raises:
            ValueError: the named ones differ, or there are none.
        """
        if isinstance(self.size, str):
            return self.size
        if network in self.size:
            return self.size[network]
        if len(set(self.size.values())) != 1:
            raise ValueError(f"size={self.size!r} does not tell the size of {network}: name it in the profile's size")
        return next(iter(self.size.values()))

    @property
    def needs(self) -> list:
        """The runs whose weights this one begins with."""
        return [other for other in self.starts.values() if not is_weights_file(other)]

    @property
    def starts(self) -> dict:
        """Of STARTS those that are set -> the run, or the weights file, that each names."""
        return {name: other for name in STARTS if (other := getattr(self, name))}

    @property
    def trains(self) -> bool:
        """Whether there are weights to train (a classical downscaler's with bicubic upscaling or ZSSR has none)."""
        return self.learns_downscaling or (self.upscaler != "bicubic" and not self.image_steps)

    @property
    def priced(self) -> bool:
        """Whether the loss counts the bits that LR images take."""
        return self.bit_price > 0

    @property
    def keeps_last(self) -> bool:
        """Whether its last weights are kept, and not the best: a price, or patches without colour, is not validated."""
        return self.priced or self.grey == 1

    @property
    def learns_downscaling(self) -> bool:
        """Whether the LR images are a network's."""
        return self.downscaler in method_networks.LEARNED

    @property
    def classical(self) -> str | None:
        """Whose LR images training reads: the downscaler's, bicubic's as a learned one's guide; CAR needs none."""
        if self.downscaler == "car":
            return None
        return "bicubic" if self.learns_downscaling else self.downscaler


def read_params() -> dict:
    """params.yaml as a dict.

    Raises:
        ValueError: the file is not valid YAML, or lacks a section.
    """
    return copy.deepcopy(_params())


def tolerance() -> dict:
    """What counts as reproduced (params.yaml), by name; a table asks for it line by line."""
    return dict(_params()["tolerance"])


def _params() -> dict:
    """As `read_params`, but shared: not to be changed, nor handed out. A copy takes longer than what it is read for."""
    import yaml

    path = results.root() / "params.yaml"
    try:
        params = _parsed(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:  # only CARLIB_HOME names a folder without one
        raise ValueError(f"{path} is not there: CARLIB_HOME must name a clone of the project") from error
    except yaml.YAMLError as error:
        place = f", line {error.problem_mark.line + 1}" if getattr(error, "problem_mark", None) else ""
        why = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ValueError(f"params.yaml is not valid YAML{place}: {why}") from error
    needed = ("profile", "defaults", "profiles", "runs")
    if not isinstance(params, dict) or (missing := [key for key in needed if key not in params]):
        raise ValueError(f"{path} lacks {', '.join(missing) if isinstance(params, dict) else 'everything'}")
    for section in needed[1:]:
        if not isinstance(params[section], dict):
            raise ValueError(f"{path}: {section} is {params[section]!r}, not name: value lines")
    return params


@functools.lru_cache(maxsize=4)
def _parsed(text):
    """YAML is slow to read, and a list of all runs asks for each of them several times."""
    import yaml

    return yaml.safe_load(text)


def profile(name: str | None = None) -> dict:
    """One profile of params.yaml, with its "name"; None takes the file's own `profile`."""
    params = _params()
    name = params["profile"] if name is None else name
    if not isinstance(name, str):
        raise ValueError(f"profile={name!r} is not a name")
    check_known("profile", name, params["profiles"])
    sections = params["profiles"][name]
    if not isinstance(sections, dict) or (missing := sorted({"about", "size", "train", "evaluate"} - sections.keys())):
        raise ValueError(f"profile {name} lacks {', '.join(missing) if isinstance(sections, dict) else 'everything'}")
    return {"name": name, **copy.deepcopy(sections)}


def names() -> list[str]:
    """The declared runs."""
    return list(_params()["runs"])


def get(name: str, profile_name: str | None = None, overrides: dict | None = None) -> Run:
    """The run `name` under a profile: defaults < the profile's training numbers < the run's own < overrides.

    Under profile demo these are mini's, which the shipped weights were trained with, and what a run names for demo.

    RUN-seed2 is the declared RUN under seed 2, with folder, weights and rows of its own; what it starts from is RUN's.

    Raises:
        ValueError: the run, the profile or a parameter is unknown, or a value has the wrong type or is out of range.
    """
    params, overrides = _params(), dict(overrides or {})
    declared_name, seed = split_seed(name, params["runs"])
    check_known("run", declared_name, params["runs"], "`carlib experiments` lists all runs")
    if seed and "seed" in overrides:
        raise ValueError(f"run {name!r} has its seed in its name: leave seed={overrides['seed']!r} out")
    overrides |= {"seed": seed} if seed else {}
    chosen = profile(profile_name)
    # A profile without training numbers shows what mini's weights, which are shipped, were trained with.
    trained = chosen if chosen["train"] else {"name": "mini", **params["profiles"]["mini"]}
    if not isinstance(params["runs"][declared_name], dict):
        raise ValueError(f"run {declared_name!r} has nothing under it: see runs in params.yaml")
    declared = dict(params["runs"][declared_name])
    own = {other: declared.pop(other, None) or {} for other in params["profiles"]}  # numbers a run wants under one only
    declared |= own[trained["name"]] | own[chosen["name"]]
    if fixed := {"name", "profile", "size"} & overrides.keys():
        raise ValueError(
            f"parameter {min(fixed)!r} cannot be overridden: declare another run or profile in params.yaml"
        )
    nothing = {} if chosen["train"] else {"steps": 0}
    merged = {
        **params["defaults"],
        "size": chosen["size"],
        **trained["train"],
        **declared,
        **nothing,
        **overrides,
    }
    made = make(name=name, profile=chosen["name"], **copy.deepcopy(merged))
    run_checks.check_overrides(made, overrides)
    return made


def split_seed(name: str, declared) -> tuple[str, int | None]:
    """("car-edsr-x2-seed3", names) -> ("car-edsr-x2", 3); one of the declared names is itself, with seed None."""
    found = None if name in declared else _SEED.fullmatch(str(name))
    return (found["run"], int(found["seed"])) if found else (name, None)


def seeded(names, count: int) -> list[str]:
    """Each run under its own and further seeds: ["car-edsr-x2", "car-edsr-x2-seed1", ...], `count` names of each."""
    return [each for name in names for each in (name, *(f"{name}-seed{seed}" for seed in range(1, count)))]


def at_scales(patterns, scales) -> list[str]:
    """Names such as "car-edsr-x{}" at several scales, scale by scale."""
    return [pattern.format(scale) for scale in scales for pattern in patterns]


def trained(name: str, profile_name: str | None = None) -> Run:
    """A run as its weights are trained: under the profile itself or, where that trains nothing, under mini.

    Raises:
        ValueError: as `get`.
    """
    return get(name, "mini" if profile(profile_name)["train"] is None else profile_name)


def needed(name: str, profile_name: str | None = None, _by=()) -> list[str]:
    """All runs that a run begins with, directly or not, each after those that it needs itself.

    Raises:
        ValueError: as `get`, or runs need each other in a circle.
    """
    if name in _by:
        raise ValueError(f"no run of {' -> '.join((*_by, name))} can be first: see {', '.join(STARTS)}")
    found = []
    for other in get(name, profile_name).needs:
        found += [*needed(other, profile_name, (*_by, name)), other]
    return list(dict.fromkeys(found))


def make(**values) -> Run:
    """A checked Run from plain values.

    Raises:
        ValueError: a name is unknown, a type is wrong, or a number is out of range.
    """
    hints = typing.get_type_hints(Run)
    for name, value in values.items():
        check_known("parameter", name, hints, "see `defaults` and `train` in params.yaml")
        check_type(name, value, hints[name])
    required = [f.name for f in dataclasses.fields(Run) if f.default is f.default_factory is dataclasses.MISSING]
    if missing := [name for name in required if name not in values]:
        raise ValueError(f"run {values.get('name')!r} lacks {', '.join(missing)}: see runs in params.yaml")
    run = Run(**{k: float(v) if hints[k] is float else v for k, v in values.items()})
    run_checks.check(run)
    return run


def check_type(name, value, expected):
    """Refuse `value` unless it has the type `expected` (a class or a union of classes)."""
    allowed = typing.get_args(expected) if isinstance(expected, types.UnionType) else (expected,)
    if float in allowed:
        allowed = (*allowed, int)
    if isinstance(value, allowed) and not (isinstance(value, bool) and bool not in allowed):
        return
    wanted = " or ".join("null" if t is type(None) else t.__name__ for t in allowed)
    hint = ""
    if isinstance(value, str) and float in allowed and _is_number(value):
        hint = f": YAML reads {value} as text, write {float(value):.1e}"
    raise ValueError(f"{name}={value!r} is {type(value).__name__}, not {wanted}{hint}")


def _is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True


def check_known(kind, name, known, listed=""):
    """Refuse a name that is not among the known ones.

    Args:
        listed: where they are told, if they are too many for a line.
    Raises:
        ValueError: so, with the one that may have been meant.
    """
    if name not in known:
        close = difflib.get_close_matches(str(name), known, n=1)
        meant = f"did you mean {close[0]!r}? " if close else ""
        told = listed or f"known are {', '.join(known)}"
        raise ValueError(f"{kind} {name!r} is unknown: {meant}{told}")


def defaults() -> dict:
    """Parameter -> its default, of those that have one: what a recipe from before it had a name was trained with."""
    return {f.name: f.default for f in dataclasses.fields(Run) if f.default is not dataclasses.MISSING}


def parse_overrides(pairs) -> dict:
    """["lr=1.0e-4", "seed=3"] -> {"lr": 1e-4, "seed": 3}; values are YAML.

    Raises:
        ValueError: a pair has no "=", or its value is not YAML.
    """
    import yaml

    overrides = {}
    for pair in pairs:
        name, separator, text = pair.partition("=")
        if not separator:
            raise ValueError(f"-p {pair!r} is not name=value")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ValueError(f"-p {pair!r} is not valid YAML: {str(error).splitlines()[0]}") from error
        # On the command line 1e-4 can only mean the number.
        overrides[name] = float(value) if isinstance(value, str) and _is_number(value) else value
    return overrides


def is_weights_file(start: str) -> bool:
    """Whether one of STARTS names a weights file, not a run."""
    return str(start).endswith(".safetensors")


def as_dict(run: Run) -> dict:
    """The run as plain JSON-able values."""
    return dataclasses.asdict(run)
