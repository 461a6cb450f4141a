"""What the KPU can run: one documented rule each.

``kpu check``, the compiler's placement and the operators page of the documentation all come from these rules. A rule
takes what it needs as numbers and returns None, or why it is broken: the limit and the actual value.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from openkpu.k210 import (
    AI_RAM_BYTES,
    MAX_CHANNELS,
    MAX_HEIGHT,
    MAX_WEIGHT_LOADS,
    MAX_WIDTH,
    MIN_SIZE,
    WEIGHT_LOAD_BYTES_8,
    WEIGHT_LOAD_BYTES_16,
)
from openkpu.kpu.fmap import FeatureMapLayout


@dataclass(frozen=True, slots=True)
class LayerShape:
    """The numbers of a layer that the rules look at. Sizes are (height, width); ``output`` is after pooling."""

    channels: int
    size: tuple[int, int]
    out_channels: int
    output: tuple[int, int]
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    pool: str = "none"
    weight_bytes: int = 1

    @property
    def depthwise(self) -> bool:
        """One kernel a channel."""
        return self.groups == self.channels == self.out_channels and self.groups > 1


Check = Callable[[LayerShape], str | None]


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule with its stable code and its text."""

    code: str
    text: str
    check: Check
    remedy: str


RULES: Final[list[Rule]] = []


def rule(code: str, remedy: str) -> Callable[[Check], Check]:
    """Register a rule; its docstring is the rule's text."""

    def register(check: Check) -> Check:
        RULES.append(Rule(code, (check.__doc__ or "").strip(), check, remedy))
        return check

    return register


@rule("R01", "use 1x1 or 3x3 kernels; smaller ones are embedded in a 3x3 kernel at no cost")
def kernel_size(s: LayerShape) -> str | None:
    """Kernels are 1x1 or 3x3 (smaller ones are embedded in 3x3)."""
    return None if max(s.kernel) <= 3 else f"kernel {s.kernel[0]}x{s.kernel[1]}, limit 3x3"


@rule("R02", "use stride 1 or 2 (the same in both directions)")
def stride(s: LayerShape) -> str | None:
    """Strides are 1, or 2 in both directions through the left-top pooling."""
    return None if s.stride in ((1, 1), (2, 2)) else f"stride {s.stride[0]}x{s.stride[1]}, allowed 1x1 and 2x2"


@rule("R03", "pad 1 pixel on all sides of a 3x3 convolution (PyTorch: padding=1; Keras: ZeroPadding2D(1) + 'valid')")
def padding(s: LayerShape) -> str | None:
    """Padding is symmetric and same: 1 pixel all round a 3x3 kernel, none round a 1x1 kernel."""
    want = tuple((k - 1) // 2 for k in s.kernel) * 2
    return None if s.pads == want else f"pads (top, left, bottom, right) {s.pads}, the KPU has {want}"


@rule("R04", "use dilation 1")
def dilation(s: LayerShape) -> str | None:
    """Kernels are not dilated."""
    return None if s.dilation == (1, 1) else f"dilation {s.dilation[0]}x{s.dilation[1]}, limit 1x1"


@rule("R05", "use groups = 1 (dense) or groups = channels (depthwise)")
def groups(s: LayerShape) -> str | None:
    """Convolutions are dense or depthwise (one kernel a channel, as many outputs as inputs)."""
    if s.groups == 1 or s.depthwise:
        return None
    return f"groups {s.groups} with {s.channels} -> {s.out_channels} channels, allowed 1 or one for each channel"


@rule("R06", "use at most 1024 channels")
def channels(s: LayerShape) -> str | None:
    """1 to 1024 input and output channels."""
    n = max(s.channels, s.out_channels)
    return None if n <= MAX_CHANNELS else f"{n} channels, limit {MAX_CHANNELS}"


@rule("R07", "use a smaller input picture (320x240 is the camera's QVGA)")
def largest_map(s: LayerShape) -> str | None:
    """Feature maps up to 512 wide and 256 high (documented: 320x240)."""
    h, w = s.size
    return None if w <= MAX_WIDTH and h <= MAX_HEIGHT else f"{w}x{h} (width x height), limit {MAX_WIDTH}x{MAX_HEIGHT}"


@rule("R08", "drop the last stride or use a larger input picture, so that the map stays at 4x4 or more")
def smallest_map(s: LayerShape) -> str | None:
    """Feature maps at least 4x4, at the input and at the output."""
    n = min(*s.size, *s.output)
    return (
        None
        if n >= MIN_SIZE
        else f"{s.size[1]}x{s.size[0]} -> {s.output[1]}x{s.output[0]}, limit {MIN_SIZE}x{MIN_SIZE}"
    )


@rule("R09", "pool after the next dense convolution instead")
def depthwise_pool(s: LayerShape) -> str | None:
    """No pooling in a depthwise layer (no known file has one)."""
    return None if not s.depthwise or s.pool == "none" else f"pooling {s.pool} in a depthwise layer"


@rule("R10", "it is split by output channels")
def weight_loads(s: LayerShape) -> str | None:
    """At most 64 weight loads of 30 KiB (60 KiB with 16-bit weights); one load holds whole output channels."""
    n = load_count(s)
    return None if n <= MAX_WEIGHT_LOADS else f"{n} weight loads, limit {MAX_WEIGHT_LOADS}"


@rule("R11", "use a smaller input picture or fewer channels")
def ai_ram(s: LayerShape) -> str | None:
    """Input and output feature map together fit the 2 MiB of AI RAM."""
    need = FeatureMapLayout(s.channels, *s.size).bytes + FeatureMapLayout(s.out_channels, *s.output).bytes
    return None if need <= AI_RAM_BYTES else f"{need} bytes for input and output, limit {AI_RAM_BYTES}"


def channels_per_load(s: LayerShape) -> int:
    """Return how many output channels one weight load brings."""
    if s.depthwise:
        return s.out_channels
    room = WEIGHT_LOAD_BYTES_8 if s.weight_bytes == 1 else WEIGHT_LOAD_BYTES_16
    return max(1, min(s.out_channels, room // (s.kernel[0] * s.kernel[1] * s.channels * s.weight_bytes)))


def load_count(s: LayerShape) -> int:
    """Return the number of weight loads."""
    return -(-s.out_channels // channels_per_load(s))


def broken(s: LayerShape) -> list[tuple[Rule, str]]:
    """Return every broken rule with its reason, in the order of the rules."""
    return [(r, why) for r in RULES if (why := r.check(s)) is not None]
