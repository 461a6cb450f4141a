"""Tensors moved, cut, padded and picked, as nncase 1.9 does it. Source: nncase v1.9.0, ``kernels/cpu/reference``."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from openkpu.errors import UnsupportedError
from openkpu.kmodel.operators import Pair
from openkpu.ops.tensor_movement import pad

Array = NDArray[Any]
_NUMPY_MODES: Final[dict[str, Any]] = {"reflect": "reflect", "symmetric": "symmetric", "edge": "edge"}


def pad_tensor(x: Array, pads: tuple[Pair, ...], value: float, mode: str, interior: tuple[int, ...]) -> Array:
    """Put ``interior`` values between neighbours, then pad; negative pads crop (constant mode)."""
    if interior:
        shape = tuple(n + (n - 1) * i for n, i in zip(x.shape, interior, strict=True))
        spread = np.full(shape, value, x.dtype)
        spread[tuple(slice(None, None, i + 1) for i in interior)] = x
        x = spread
    if mode != "constant":
        return np.pad(x, pads, _NUMPY_MODES[mode])
    return pad(x, pads, value)


def batch_to_space(x: Array, block: tuple[int, ...], crops: tuple[Pair, ...]) -> Array:
    """Blocks of the batch become neighbours of the last dimensions."""
    rest = x.ndim - len(block)
    count = int(np.prod(block))
    split = x.reshape(*block, x.shape[0] // count, *x.shape[1:])
    m = len(block)
    order = [*range(m, m + rest)]
    for i in range(m):
        order += [m + rest + i, i]
    spatial = [n * b for n, b in zip(x.shape[rest:], block, strict=True)]
    merged = split.transpose(order).reshape(x.shape[0] // count, *x.shape[1:rest], *spatial)
    cut = tuple(slice(b, n - a) for n, (b, a) in zip(spatial, crops, strict=True))
    return merged[(slice(None),) * rest + cut]


def space_to_batch(x: Array, block: tuple[int, ...], pads: tuple[Pair, ...]) -> Array:
    """The reverse of ``batch_to_space``, after padding with 0."""
    rest = x.ndim - len(block)
    padded = np.pad(x, ((0, 0),) * rest + pads)
    shape = list(padded.shape[:rest])
    order = list(range(rest))
    blocks = []
    for n, b in zip(padded.shape[rest:], block, strict=True):
        order.append(len(shape))
        blocks.append(len(shape) + 1)
        shape += [n // b, b]
    moved = padded.reshape(shape).transpose(*blocks, *order)
    spatial = [n // b for n, b in zip(padded.shape[rest:], block, strict=True)]
    return moved.reshape(x.shape[0] * int(np.prod(block)), *x.shape[1:rest], *spatial)


def _checked(index: Array, size: Any, what: str) -> Array:
    """Indices are data: one outside the tensor reads other memory on the device."""
    if index.size and (np.any(index < 0) or np.any(index >= size)):
        raise UnsupportedError(
            "E248",
            "an index lies outside the tensor",
            where=what,
            why=f"indices {index.min()}..{index.max()} for {np.max(size)} elements; the device would read other memory",
            fix="Check the input: the model computes indices from it.",
        )
    return index


def gather(x: Array, index: NDArray[np.int32], axis: int) -> Array:
    """Pick slices along ``axis``."""
    return np.take(x, _checked(index, x.shape[axis], "GATHER"), axis)


def gather_nd(x: Array, index: NDArray[np.int32], batch_dims: int) -> Array:
    """Pick slices by tuples of indices."""
    depth = index.shape[-1]
    sizes = np.array(x.shape[batch_dims : batch_dims + depth])
    _checked(index, sizes, "GATHER_ND")
    own = np.ogrid[tuple(slice(n) for n in index.shape[:batch_dims])]
    batch = tuple(o.reshape(o.shape + (1,) * (index.ndim - 1 - batch_dims)) for o in own)
    return x[batch + tuple(np.moveaxis(index, -1, 0))]


def gather_elements(x: Array, index: NDArray[np.int64], axis: int) -> Array:
    """Pick elements along ``axis``; negative indices count from the end."""
    index = _checked(np.where(index < 0, index + x.shape[axis], index), x.shape[axis], "GATHER_ELEMENTS")
    region = tuple(slice(n) if i != axis else slice(None) for i, n in enumerate(index.shape))
    return np.take_along_axis(x[region], index, axis)


def one_hot(
    index: NDArray[np.int32], off: Any, on: Any, out: tuple[int, ...], axis: int, *, negative_from_end: bool
) -> Array:
    """``on`` where the index along ``axis`` is met, else ``off``."""
    wanted = np.where(index < 0, index + out[axis], index) if negative_from_end else index
    places = np.arange(out[axis]).reshape((-1,) + (1,) * (len(out) - axis - 1))
    result: Array = np.where(np.expand_dims(wanted, axis) == places, on, off)
    return result


def triangle(x: Array, k: int, *, upper: bool) -> Array:
    """The upper or lower triangle of the last two dimensions, from the k-th diagonal; 0 elsewhere."""
    return np.triu(x, k) if upper else np.tril(x, k)
