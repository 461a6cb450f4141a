"""What a handler of a Caffe layer works with: its blobs as IR tensors, its text, its weights, its results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from openkpu.errors import FileFormatError, OpenKPUError, UnsupportedError
from openkpu.graph.ir import Tensor
from openkpu.importers.caffe_file import Layer
from openkpu.importers.message import Message
from openkpu.importers.network import Network


class Call:
    """One layer while it is imported. ``label`` is how messages call it."""

    def __init__(self, network: Network, layer: Layer, inputs: Sequence[Tensor]) -> None:
        self.network = network
        self.layer = layer
        self.inputs = list(inputs)
        self.label = f"{layer.type} '{layer.name}'"
        self.results: list[Tensor] = []
        self.stem = layer.tops[0] if layer.tops else layer.name

    # -- errors ---------------------------------------------------------------------------------------------------
    def damaged(self, what: str, why: str = "") -> OpenKPUError:
        """Return the error that this layer contradicts itself or its weights."""
        return FileFormatError(
            "E174", what, where=self.label, why=why or f"inputs {self.shapes()}",
            fix="check that prototxt and caffemodel belong together",
        )  # fmt: skip

    def refuse(self, what: str, why: str = "", fix: str = "") -> OpenKPUError:
        """Return the error that this layer cannot be taken."""
        return UnsupportedError("E291", what, where=self.label, why=why or f"inputs {self.shapes()}", fix=fix)

    def shapes(self) -> str:
        """Return the inputs' shapes for messages."""
        return ", ".join("x".join(map(str, t.shape)) for t in self.inputs) or "none"

    # -- inputs ---------------------------------------------------------------------------------------------------
    @property
    def x(self) -> Tensor:
        """The first input."""
        return self.input(0)

    def input(self, i: int) -> Tensor:
        """Return input ``i``."""
        if i >= len(self.inputs):
            raise self.damaged(f"{self.layer.type} needs {i + 1} bottoms, it has {len(self.inputs)}")
        return self.inputs[i]

    def param(self, name: str) -> Message:
        """Return the layer's parameters; empty where it has none."""
        return self.layer.body.message(name)

    def blob(self, i: int, what: str) -> NDArray[np.float32]:
        """Return the layer's weights number ``i``."""
        if i >= len(self.layer.blobs):
            raise FileFormatError(
                "E174", f"the {what} of a layer are missing", where=self.label,
                why=f"the caffemodel has {len(self.layer.blobs)} arrays for it",
                fix="check that prototxt and caffemodel belong together: layers are matched by name",
            )  # fmt: skip
        return self.layer.blobs[i]

    def axis(self, value: int, rank: int) -> int:
        """Return an axis counted from the front."""
        if not -rank <= value < rank:
            raise self.damaged(f"axis {value} does not exist", f"the input has {rank} dimensions")
        return value % rank

    # -- results --------------------------------------------------------------------------------------------------
    def add(self, op: str, inputs: Sequence[Tensor | None], stem: str = "", **attrs: Any) -> Tensor:
        """Import an ONNX operator; its result is called like this layer's top, or that with ``.stem``."""
        name = f"{self.stem}.{stem}" if stem else self.stem
        return self.network.add(op, inputs, self.layer.name, name, **attrs)

    def const(self, data: Any, stem: str) -> Tensor:
        """Return a float constant."""
        return self.network.constant(np.asarray(data, np.float32), f"{self.stem}.{stem}")

    def ints(self, values: Sequence[int], stem: str) -> Tensor:
        """Return a constant list of whole numbers."""
        return self.network.ints(values, f"{self.stem}.{stem}")

    def reshape(self, t: Tensor, shape: Sequence[int], stem: str = "") -> Tensor:
        """Return a tensor in another shape."""
        return self.add("Reshape", [t, self.ints(shape, "shape")], stem)

    def affine(self, t: Tensor, scale: float, shift: float, stem: str = "") -> Tensor:
        """Return ``t * scale + shift`` for plain numbers."""
        if scale != 1:
            t = self.add("Mul", [t, self.const(scale, "scale")], stem if shift == 0 else f"{stem}scaled")
        return self.add("Add", [t, self.const(shift, "shift")], stem) if shift != 0 else t

    def done(self, *tensors: Tensor) -> None:
        """Let the tops be these tensors."""
        self.results = list(tensors)


Handler = Callable[[Call], None]
HANDLERS: Final[dict[str, Handler]] = {}
"""Layer type -> its handler."""


def handles(*types: str) -> Callable[[Handler], Handler]:
    """Register a handler for the layer types."""

    def register(handler: Handler) -> Handler:
        for name in types:
            HANDLERS[name] = handler
        return handler

    return register
