"""Runs a float graph in onnxruntime and shows any of its tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openkpu.errors import InputError, UnsupportedError
from openkpu.extras import require
from openkpu.float.export import to_onnx
from openkpu.graph.ir import Graph, Tensor


class FloatSession:
    """A graph, ready to run; ``watch`` are tensors to return besides the outputs.

    Watched tensors are outputs of the ONNX graph, so onnxruntime computes them exactly, whatever it fuses elsewhere.
    A watched tensor may also be one that an exporter makes (by name and shape), an input, or a constant.
    """

    def __init__(self, graph: Graph, watch: Sequence[Tensor] = (), threads: int = 1) -> None:
        ort = require("onnxruntime", "onnx")
        self._inputs = {t.name: t for t in graph.inputs}
        self._fixed = {t.name: t.data for t in (*watch, *graph.outputs) if t.data is not None}
        self._passed = [t.name for t in watch if t.name in self._inputs]
        extra = [t for t in watch if t.name not in self._inputs and not t.is_constant]
        model = to_onnx(graph, extra_outputs=extra)
        wanted = [o.name for o in model.graph.output if o.name not in self._fixed]
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        self._name = graph.name
        try:
            self._session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises a class for each of its status codes, without a common base
            raise self._refused(error) from error
        self._wanted = wanted

    def run(self, inputs: Mapping[str, NDArray[Any]] | NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Run once; returns outputs and watched tensors by name.

        An array alone is the only input. Shapes are those of the graph; a missing leading 1 is added, values are
        converted to the input's type. ``InputError`` E451 says what does not fit, ``UnsupportedError`` E282 what
        onnxruntime refuses.
        """
        if not isinstance(inputs, Mapping):
            if len(self._inputs) != 1:
                raise InputError(
                    "E451", f"one array for {len(self._inputs)} inputs",
                    why=f"the inputs are {', '.join(self._inputs)}",
                    fix="give a mapping from name to array",
                )  # fmt: skip
            inputs = {next(iter(self._inputs)): inputs}
        unknown = [n for n in inputs if n not in self._inputs]
        missing = [n for n in self._inputs if n not in inputs]
        if unknown or missing:
            raise InputError(
                "E451", "the inputs do not match the model's",
                why=f"unknown: {', '.join(unknown) or 'none'}; missing: {', '.join(missing) or 'none'}",
                fix=f"give {', '.join(self._inputs)}",
            )  # fmt: skip
        feeds = {n: self._fit(t, np.asarray(inputs[n])) for n, t in self._inputs.items()}
        try:
            values = self._session.run(self._wanted, feeds) if self._wanted else []
        except Exception as error:  # some mistakes in a graph are only noticed when it runs
            raise self._refused(error) from error
        result = dict(zip(self._wanted, values, strict=True))
        result.update({n: np.asarray(a) for n, a in self._fixed.items()})
        result.update({n: feeds[n] for n in self._passed})
        return result

    def _refused(self, error: Exception) -> UnsupportedError:
        return UnsupportedError(
            "E282",
            "onnxruntime refuses the float graph",
            where=self._name,
            why=str(error).strip()[:400],
            fix="if the model itself runs in onnxruntime this is a fault of OpenKPU: please report it",
        )

    @staticmethod
    def _fit(tensor: Tensor, array: NDArray[Any]) -> NDArray[Any]:
        if array.shape == tensor.shape[1:] and tensor.shape[:1] == (1,):
            array = array[None]
        if array.shape != tensor.shape or array.dtype.kind not in "biuf":
            raise InputError(
                "E451", f"an array of shape {array.shape} and type {array.dtype} for input '{tensor.name}'",
                why=f"the model takes {tensor.shape} of {tensor.dtype}", fix="check size and order of the dimensions",
            )  # fmt: skip
        return np.ascontiguousarray(array, tensor.dtype)
