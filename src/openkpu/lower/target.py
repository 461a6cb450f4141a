"""What each kmodel version can do beside the KPU: the lowering asks here, and errors name the version that could.

All versions have the same KPU. Their runtimes differ in the operators of the CPU: V3 has a handful, V4 and V5 have
general tensor operators (nncase 0.2 and 1.x). An operator of the source model that V3 cannot express becomes one of
them there, on the CPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from openkpu.errors import UnsupportedError


@dataclass(frozen=True, slots=True)
class Target:
    """One kmodel version."""

    version: int
    tensor_ops: frozenset[str]
    """The source operators that its CPU runtime has in general form (any shape, axis, window, padding)."""
    most_dims: int
    """Most dimensions of a tensor that a general operator reads."""
    resize_half_pixel: bool = False
    """Whether its resize knows the half-pixel coordinates."""
    softmax_any_axis: bool = False

    @property
    def name(self) -> str:
        """As users write it: ``v3``."""
        return f"v{self.version}"

    @property
    def title(self) -> str:
        """As messages call it: ``kmodel V3``."""
        return f"kmodel V{self.version}"

    def has(self, op: str) -> bool:
        """Whether the runtime has the operator in general form."""
        return op in self.tensor_ops


_BOTH: Final = frozenset(
    (
        "Conv", "Gemm", "MatMul", "MaxPool", "AveragePool", "Add", "Sub", "Mul", "Div", "Min", "Max", "Concat", "Pad",
        "Resize", "Slice", "Transpose", "Softmax", "Elementwise", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum",
        "LpNormalization",
    )
)  # fmt: skip

V3: Final = Target(3, frozenset(), 0)
V4: Final = Target(4, _BOTH | {"ConvTranspose"}, 4)
V5: Final = Target(5, _BOTH | {"Pow", "ArgMax", "ArgMin"}, 4, resize_half_pixel=True, softmax_any_axis=True)
TARGETS: Final = {t.name: t for t in (V3, V4, V5)}


def target(name: str) -> Target:
    """Return the target called ``name``; ``UnsupportedError`` E201 when there is none."""
    found = TARGETS.get(name)
    if found is None:
        raise UnsupportedError(
            "E201",
            f"there is no target {name!r}",
            where="option target",
            why=f"the kmodel versions are {', '.join(TARGETS)}",
            fix="use v3, which every MaixPy firmware loads",
        )
    return found


def elsewhere(op: str, than: Target) -> str:
    """Say which other versions have an operator that ``than`` lacks; empty when none has."""
    others = [t for t in TARGETS.values() if t is not than and t.has(op)]
    if not others:
        return ""
    names = " and ".join(f"V{t.version}" for t in others)
    return f"kmodel {names} {'have' if len(others) > 1 else 'has'} it: --target {others[0].name}"
