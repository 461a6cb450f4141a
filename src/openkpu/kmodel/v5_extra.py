"""What a V5 file has beyond its program, for exact re-writing."""

from __future__ import annotations

from dataclasses import dataclass, field

from openkpu.kmodel.program import Operand, Step
from openkpu.kmodel.v5_isa import LATEST
from openkpu.kmodel.v5_k210 import Parameters
from openkpu.kmodel.v5_structures import Container


@dataclass(frozen=True, slots=True)
class CallRecord:
    """A call of a k210 function: the steps that came from it and the caller's tensors."""

    first: int
    count: int
    module: int
    function: int
    inputs: tuple[Operand, ...]
    outputs: tuple[Operand, ...]


@dataclass(frozen=True, slots=True)
class V5Extra:
    """The layout of the file. It holds for the very ``steps`` that were read; for others the writer lays out anew."""

    variant: str
    """Which version's numbers the tensor functions have."""
    skeleton: Container
    """Headers, pools, functions and the names of the sections, without their bodies."""
    rdata_bytes: tuple[int, ...]
    """Size of each module's .rdata."""
    main_base: tuple[int, ...]
    """Where each module's data pool lies in main RAM: the stackvm's at 0, the others after it."""
    const_base: tuple[int, ...]
    """Where each module's .rdata lies in the constant area."""
    zero_for_one: bool
    """Strides of dimensions of size 1 are written as 0 (files of 2021)."""
    steps: tuple[Step, ...] = field(repr=False)
    calls: tuple[CallRecord, ...] = field(repr=False)
    arrays: dict[int, tuple[int, ...]] = field(repr=False)
    """Step -> where in .rdata its own arrays (weights, bias, table) lie."""
    parameters: dict[int, Parameters] = field(repr=False)
    """KPU layer -> where in .rdata its arrays lie."""

    @property
    def made_by(self) -> str:
        """Which versions of nncase write such files."""
        return (
            f"nncase {self.variant}"
            if self.variant in (LATEST, "1.0", "1.1", "1.2", "1.3", "1.4")
            else (f"a development version of nncase 1.x ({self.variant})")
        )
