"""ResamplerNet: predicts a kernel and an offset per tap for every LR pixel (CAR, section 3.1 and Fig. 1).

The released network and the printed one differ (REPLICATION.md lists how); this is the released one, with the kernel
size, the weighting and the width as options. Its state dict has the keys of the released kgn.pth.
"""

import math
from collections import OrderedDict
from functools import partial

import torch
from torch import nn

from carlib.models.blocks import check_hr
from carlib.models.guided import guided_residual
from carlib.models.layers import MeanShift, PixelShuffle, PixelUnshuffle, ReflectionPad, at_least_float32
from carlib.ops.imresize import contributions
from carlib.ops.resample import reflect_indices, resample

WEIGHTINGS = ("clamp", "softmax", "signed", "guided", "static")
ACTIVATIONS = {"relu": nn.ReLU, "leaky_relu": partial(nn.LeakyReLU, 0.2)}  # of trunks and heads


class ResamplerNet(nn.Module):
    """hr -> kernel, offset_v, offset_h.

    Args:
        scale:       1, 2, 4 or 8 as released; 3, where the last halving is a third instead.
        kernel_size: taps along each axis; None = 3*scale + 1 (released), 3*scale = printed.
        weighting:   how raw outputs become weights that sum to 1:
                     "clamp":   clamp(raw, 1e-6, 1) / sum, the released rule; non-negative, no gradient where clamped.
                     "softmax": softmax(raw + log prior), prior a Gaussian of 0.35 LR pixels; positive everywhere.
                     "signed":  bicubic's weights + a zero-mean residual, bound * tanh(raw / bound) less its mean; may
                                be negative, as bicubic's own are. Starts as bicubic.
                     "guided":  bicubic's weights + the residual that moves the LR pixel's colour by bound * tanh(raw /
                                bound), three raw outputs instead of K*K (models/guided.py). Starts as bicubic.
                     "static":  bicubic's weights + one learned zero-mean residual, the same for all pixels of all
                                images, without offsets: what training gains where nothing follows the image. It has
                                no trunks; scale, kernel_size, taps, border, prior_sigma are its only other arguments.
        width:       features of trunks and heads; 256 as released. The encoder has 1/4, 1/2 and 1/2 of it.
        blocks:      residual blocks at quarter resolution; 5.
        taps:        geometry of even kernels, see `carlib.resample`.
        border:      beyond the reflected pad, see `carlib.resample`; "release" for exact parity with the release.
        offsets:     False fixes all offsets to 0 (Table 3, "w/o offset") and omits their branch.
        bound:       largest residual of "signed", in units of a weight; largest step of "guided", in units of hr.
        local:       residual blocks on the image itself at the LR grid (pixel unshuffle by `scale`), whose features
                     join those of the trunks: these come from 1/8 of the resolution (1/12 at scale 3), too coarse for
                     what changes from one LR pixel to the next. 0: none, as published.
        guided_eps:  of "guided": along colours that vary less than this under the taps (a variance, in units of hr
                     squared) the kernel hardly moves the LR pixel.
        activation:  of trunks and heads: "relu" as released, "leaky_relu" (slope 0.2) as printed.
        prior_sigma: a Gaussian of this many LR pixels (the standard deviation) is what weights start from, in place of
                     the weighting's own (above); "clamp" starts from none.
        learned_prior: of "signed" and "guided": the kernel under the residuals is trained, too, like that of "static".
        head_scale:  what the last layers of the heads begin with, times their initialisation; biases apart. 0: the
                     first kernels and offsets are the same for all pixels. None: 1 for "clamp", as released, 0 else.
    """

    def __init__(
        self,
        scale,
        kernel_size=None,
        weighting="clamp",
        width=256,
        blocks=5,
        taps="symmetric",
        border="replicate",
        offsets=True,
        bound=0.25,
        local=0,
        guided_eps=1e-5,
        activation="relu",
        prior_sigma=None,
        head_scale=None,
        learned_prior=False,
    ):
        super().__init__()
        if scale not in (1, 2, 3, 4, 8):
            raise ValueError(f"ResamplerNet has no scale {scale!r}: use 1, 2, 3, 4 or 8")
        if weighting not in WEIGHTINGS:
            raise ValueError(f"weighting={weighting!r} is unknown: use one of {', '.join(WEIGHTINGS)}")
        if taps not in ("symmetric", "paper"):
            raise ValueError(f'taps={taps!r} is unknown: use "symmetric" or "paper"')
        if border not in ("replicate", "release"):
            raise ValueError(f'border={border!r} is unknown: use "replicate" or "release"')
        if isinstance(bound, bool) or not isinstance(bound, int | float) or not 0 < bound < math.inf:
            raise ValueError(f"bound={bound!r} is not a number above 0")
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation={activation!r} is unknown: use one of {', '.join(ACTIVATIONS)}")
        if isinstance(width, bool) or not isinstance(width, int) or width < 4 or width % 4:
            raise ValueError(f"width={width!r} is not a positive multiple of 4")
        for name, value in {"blocks": blocks, "local": local}.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise ValueError(f"{name}={value!r} is not a whole number >= 0")
        if isinstance(guided_eps, bool) or not isinstance(guided_eps, int | float) or not 0 < guided_eps < math.inf:
            raise ValueError(f"guided_eps={guided_eps!r} is not a number above 0")
        number = isinstance(head_scale, int | float) and not isinstance(head_scale, bool)
        if head_scale is not None and not (number and 0 <= head_scale < math.inf):
            raise ValueError(f"head_scale={head_scale!r} is not a number >= 0")
        if learned_prior and weighting not in ("signed", "guided"):
            raise ValueError(f'learned_prior=True is for "signed" and "guided", not for weighting={weighting!r}')
        self.scale, self.weighting, self.taps, self.border, self.bound = scale, weighting, taps, border, bound
        self.kernel_size = 3 * scale + 1 if kernel_size is None else kernel_size
        if isinstance(kernel_size, bool) or not isinstance(self.kernel_size, int) or self.kernel_size < 1:
            raise ValueError(f"kernel_size={kernel_size!r} is not a whole number >= 1")
        self.with_offsets, self.guided_eps = offsets, guided_eps
        self.register_buffer("prior", self._prior(prior_sigma), persistent=False)
        quarter, half, count = width // 4, width // 2, self.kernel_size**2
        self.residual = nn.Parameter(torch.zeros(count)) if learned_prior or weighting == "static" else None
        if weighting == "static":
            if offsets or local:
                raise ValueError('weighting="static" follows no image: set offsets=False, local=0')
            return
        activate = ACTIVATIONS[activation]
        last = 3 if scale == 3 else 2
        self.stride = 4 * last  # HR pixels between the trunks' features, a multiple of the scale

        self.sub_mean = MeanShift(-1)
        self.ds_1 = nn.Sequential(ReflectionPad(2), nn.Conv2d(3, quarter, 5), nn.LeakyReLU(0.2))
        self.ds_2 = _reduction(quarter, half, 2)
        self.ds_4 = _reduction(half, half, 2)
        self.res_4 = nn.Sequential(*(ResidualBlock(half) for _ in range(blocks)))
        self.ds_8 = _reduction(half, width, last)  # the released key, at scale 3 too
        self.kernels_trunk = _trunk(width, self.stride // scale, activate)
        self.kernels_weight = _head(width, 3 if weighting == "guided" else count, activate)
        if offsets:
            self.offsets_trunk = _trunk(width, self.stride // scale, activate)
            self.offsets_h_generation = nn.Sequential(*_head(width, count, activate), nn.Tanh())
            self.offsets_v_generation = nn.Sequential(*_head(width, count, activate), nn.Tanh())
        self.local = _local(scale, width, local) if local else None
        if weighting == "guided":
            self.register_buffer("window", self._gaussian(0.8 * scale), persistent=False)
        if weighting != "clamp":
            self._start_with_kaiming()
        self._scale_heads((1 if weighting == "clamp" else 0) if head_scale is None else head_scale)

    def forward(self, hr):
        """hr (N, 3, H, W), RGB in [0, 1], H and W multiples of scale -> three of (N, K*K, H/scale, W/scale).

        Sides that are no multiples of 8 (12 at scale 3) are continued by reflection inside, surplus LR pixels cut off.
        The kernel sums to 1; offsets are HR pixels in (-scale, scale): tanh times one LR pixel.
        Raises:
            ValueError: H or W is not a multiple of scale, or hr is not (N, 3, H, W).
        """
        check_hr(hr, self.scale)
        h, w = (n // self.scale for n in hr.shape[-2:])
        if self.weighting == "static":
            kernel = self._resting.view(1, -1, 1, 1).expand(len(hr), -1, h, w)
            return kernel, torch.zeros_like(kernel), torch.zeros_like(kernel)
        image = self.sub_mean(_to_multiple(hr, self.stride))
        features = self.ds_4(self.ds_2(self.ds_1(image)))
        features = self.ds_8(features + self.res_4(features))
        local = 0 if self.local is None else self.local(image)

        raw = at_least_float32(self.kernels_weight(self.kernels_trunk(features) + local)[:, :, :h, :w])
        kernel = self._weights(raw, hr)
        if not self.with_offsets:
            return kernel, torch.zeros_like(kernel), torch.zeros_like(kernel)
        features = self.offsets_trunk(features) + local
        offset_v = self._offset(self.offsets_v_generation, features, h, w)
        offset_h = self._offset(self.offsets_h_generation, features, h, w)
        return kernel, offset_v, offset_h

    def _offset(self, layers, features, h, w):
        """Pixel after pixel in memory, as the operator and the penalties want it; what follows is single precision."""
        *head, tanh = layers
        for layer in head:
            features = layer(features)
        return tanh(at_least_float32(features[:, :, :h, :w]).contiguous()) * self.scale

    def downscale(self, hr, impl="auto"):
        """lr (N, 3, H/scale, W/scale) resampled with the predicted kernels, and the (kernel, offset_v, offset_h)."""
        predicted = self(hr)
        options = {"scale": self.scale, "impl": impl, "taps": self.taps, "border": self.border}
        return resample(at_least_float32(hr), *predicted, **options), predicted

    def _weights(self, raw, hr):
        if self.weighting == "clamp":
            positive = raw.clamp(1e-6, 1)
            return positive / positive.sum(1, keepdim=True).clamp_min(1e-6)
        prior = self._resting.view(1, -1, 1, 1)
        if self.weighting == "softmax":
            return (raw + prior.log()).softmax(1)
        bounded = self.bound * torch.tanh(raw / self.bound)
        if self.weighting == "signed":
            return prior + bounded - bounded.mean(1, keepdim=True)
        hr, options = at_least_float32(hr), {"scale": self.scale, "centre": self._centre, "eps": self.guided_eps}
        return prior + guided_residual(bounded, hr, self.window, **options)

    @property
    def _resting(self):
        """(K*K,) the kernel where nothing follows the image; it sums to 1."""
        return self.prior if self.residual is None else self.prior + self.residual - self.residual.mean()

    @property
    def _centre(self):
        """Place of the kernel's centre, in taps from the first."""
        return (self.kernel_size - 1) / 2 if self.taps == "symmetric" else self.kernel_size / 2

    def _prior(self, sigma):
        """(K*K,) weights to start from, which sum to 1: bicubic's ("signed", "guided", "static") or a Gaussian's.

        Args:
            sigma: the Gaussian's, LR pixels, or None for the weighting's own prior.
        """
        if sigma is not None:
            return self._chosen_prior(sigma)
        if self.weighting in ("signed", "guided", "static"):
            return _outer(_bicubic_line(self.scale, self._distances()))
        return self._gaussian(0.35 * self.scale)

    def _chosen_prior(self, sigma):
        if self.weighting == "clamp":
            raise ValueError(f'prior_sigma={sigma!r}: weighting="clamp" has no prior, leave it out')
        if isinstance(sigma, bool) or not isinstance(sigma, int | float) or not 0 < sigma < math.inf:
            raise ValueError(f"prior_sigma={sigma!r} is not a number above 0, nor None")
        prior = self._gaussian(sigma * self.scale)
        if not (prior > 0).all():  # where "softmax" could never put weight
            raise ValueError(f"prior_sigma={sigma!r} is so narrow that outer taps have no weight: give more")
        return prior

    def _gaussian(self, sigma):
        """(K*K,) Gaussian weights, sigma in HR pixels."""
        return _outer(torch.exp(-0.5 * (self._distances() / sigma) ** 2))

    def _distances(self):
        return torch.arange(self.kernel_size, dtype=torch.float64, device="cpu") - self._centre

    def _start_with_kaiming(self):
        """What depends on the image arrives at the heads, whose biases are 0 (their weights: _scale_heads).

        PyTorch's own initialisation shrinks it at every layer to a hundredth of the constants beside it; training then
        finds a kernel that is the same for all pixels (REPLICATION.md 5). Kaiming's keeps its size.
        """
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d) and not isinstance(layer, MeanShift):
                nn.init.kaiming_normal_(layer.weight, a=0.2)
                nn.init.zeros_(layer.bias)
        for layer in self.modules():
            if isinstance(layer, ResidualBlock):
                layer.transform[4].weight.data *= 0.1

    def _scale_heads(self, factor):
        """Multiply the first weights of the heads' last layers; with 0 kernels and offsets begin at rest."""
        heads = [self.kernels_weight[4]]
        if self.with_offsets:
            heads += [self.offsets_h_generation[4], self.offsets_v_generation[4]]
        for layer in heads:
            layer.weight.data = layer.weight.data * factor if factor else torch.zeros_like(layer.weight)


class ResidualBlock(nn.Module):
    """x + conv(leaky_relu(conv(x))), reflection padded."""

    def __init__(self, channels):
        super().__init__()
        self.transform = nn.Sequential(*_conv3(channels, channels), nn.LeakyReLU(0.2), *_conv3(channels, channels))

    def forward(self, x):
        return x + self.transform(x)


def _conv3(n_in, n_out):
    return ReflectionPad(1), nn.Conv2d(n_in, n_out, 3)


def _reduction(n_in, n_out, factor):
    """A `factor`-th of the resolution: pixel unshuffle and a 1x1 convolution, no activation."""
    layers = PixelUnshuffle(factor), nn.Conv2d(factor**2 * n_in, n_out, 1)
    return nn.Sequential(OrderedDict(downsample=nn.Sequential(*layers)))


def _trunk(width, enlarge, activate):
    """Three convolutions at the lowest resolution, a sub-pixel enlargement to the LR grid, one more convolution."""
    upsample = nn.Sequential(nn.Conv2d(width, width * enlarge**2, 1), PixelShuffle(enlarge))
    before = [layer for _ in range(3) for layer in (*_conv3(width, width), activate())]
    return nn.Sequential(*before, nn.Sequential(OrderedDict(upsample=upsample)), *_conv3(width, width), activate())


def _local(scale, width, blocks):
    """The image at the LR grid, s*s pixels a position, and residual blocks."""
    first = (PixelUnshuffle(scale), *_conv3(3 * scale**2, width), nn.LeakyReLU(0.2))
    return nn.Sequential(*first, *(ResidualBlock(width) for _ in range(blocks)))


def _head(width, count, activate):
    return nn.Sequential(*_conv3(width, width), activate(), *_conv3(width, count))


def _outer(line):
    """(K*K,) separable weights that sum to 1."""
    line = line / line.sum()
    return torch.outer(line, line).flatten().float()


def _to_multiple(hr, stride):
    """At least two strides a side: the widest reflection padding at the lowest resolution needs two pixels."""
    lengths = [max(2, math.ceil(n / stride)) * stride for n in hr.shape[-2:]]
    for axis, (n, length) in enumerate(zip(hr.shape[-2:], lengths, strict=True), start=2):
        if length != n:
            hr = hr.index_select(axis, reflect_indices(0, length - 1, n, hr.device))
    return hr


def _bicubic_line(scale, distance):
    """MATLAB's antialiased bicubic weights, sampled where the taps lie.

    An odd kernel's taps lie half-way between pixels at even scales, each a 2x2 mean: then the weights are the even
    solution whose means come closest to bicubic's pixel weights.
    """
    middle = 8 + math.ceil(float(distance.abs().max()) / scale)  # an LR pixel that is far from the border
    weights, indices = contributions(2 * middle * scale, 2 * middle, 1 / scale)
    dense = distance.new_zeros(2 * middle * scale)
    dense[torch.from_numpy(indices[middle])] += torch.from_numpy(weights[middle])
    centre = (middle + 0.5) * scale - 0.5
    position = centre + distance  # of each tap, HR pixels
    before = position.floor().long()
    fraction = position - before
    matrix = distance.new_zeros(len(dense), len(distance))
    columns = torch.arange(len(distance), device="cpu")
    matrix[before, columns] += 1 - fraction
    matrix[before + 1, columns] += fraction
    return torch.linalg.lstsq(matrix, dense[:, None], driver="gelsd").solution[:, 0]
