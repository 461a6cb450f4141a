"""Where the elements of one strided array lie in another that covers them, as boxes of indices.

A ``Box`` says which elements of an index space (the shape of some tensor) an array holds: dimension i of the array
walks along ``axis`` of the space in steps of ``step``, from ``start``. Several dimensions of the array may walk along
one axis (rows of groups of rows). So what is known of a tensor in one memory can be told of a copy, a slice or a
transpose of it in another. The functions return None where the shapes do not allow that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Walk:
    """One dimension of a box: ``count`` steps of ``step`` along ``axis``."""

    axis: int
    step: int
    count: int


@dataclass(frozen=True, slots=True)
class Box:
    """Indices of a tensor: the corner ``start``, and a walk for each dimension of the arrays that go with it."""

    start: tuple[int, ...]
    walks: tuple[Walk, ...]

    @property
    def elements(self) -> int:
        """How many indices these are."""
        n = 1
        for walk in self.walks:
            n *= walk.count
        return n

    def of(self, tensor: Array) -> Array:
        """The box's part of a tensor, as a view."""
        first = tensor[tuple(slice(s, s + 1) for s in self.start)]
        strides = tuple(tensor.strides[w.axis] * w.step for w in self.walks)
        return as_strided(first, tuple(w.count for w in self.walks), strides)


def whole(tensor: Array) -> Box:
    """The box of all elements."""
    return Box((0,) * tensor.ndim, tuple(Walk(axis, 1, n) for axis, n in enumerate(tensor.shape)))


def address(array: Array) -> int:
    """Where the first element is."""
    where: int = array.__array_interface__["data"][0]
    return where


def locate(part: Array, tensor: Array) -> tuple[Box, tuple[tuple[int, int], ...]] | None:
    """The box of ``tensor`` that ``part`` holds, and how to ``split`` it for that: (dimension, inner size) in turn.

    None for negative strides, and where a ``tensor`` repeats its elements (stride 0).
    """
    axes = sorted((i for i, n in enumerate(tensor.shape) if n > 1), key=lambda i: -tensor.strides[i])
    if any(s < 0 for s in (*part.strides, *tensor.strides)) or any(tensor.strides[i] == 0 for i in axes):
        return None
    start, rest = [0] * tensor.ndim, address(part) - address(tensor)
    if rest < 0:
        return None
    for axis in axes:
        start[axis], rest = divmod(rest, tensor.strides[axis])
    if rest or any(s >= n for s, n in zip(start, tensor.shape, strict=True)):
        return None
    last, walks, splits = list(start), [], []
    todo = list(zip(part.shape, part.strides, strict=True))
    while todo:
        n, stride = todo.pop(0)
        if n == 1:
            walks.append(Walk(0, 0, 1))
            continue
        at = next((a for a in axes if tensor.strides[a] <= stride), -1)
        if at < 0 or stride % tensor.strides[at]:
            return None
        step = stride // tensor.strides[at]
        inner = tensor.shape[at] // step
        if n > inner > 1 and n % inner == 0 and tensor.shape[at] == inner * step:
            splits.append((len(walks), inner))
            todo[:0] = [(n // inner, stride * inner), (inner, stride)]
            continue
        walks.append(Walk(at, step, n))
        last[at] += step * (n - 1)
    if any(s >= n for s, n in zip(last, tensor.shape, strict=True)):
        return None
    return Box(tuple(start), tuple(walks)), tuple(splits)


def split(array: Array, splits: Sequence[tuple[int, int]]) -> Array:
    """A view of an array with dimensions split as ``locate`` says."""
    for axis, inner in splits:
        shape, strides = list(array.shape), list(array.strides)
        shape[axis : axis + 1] = [shape[axis] // inner, inner]
        strides[axis : axis + 1] = [strides[axis] * inner, strides[axis]]
        array = as_strided(array, shape, strides)
    return array


def transposed(box: Box, perm: tuple[int, ...]) -> Box:
    """The box after a transpose."""
    new = {axis: i for i, axis in enumerate(perm)}
    return Box(tuple(box.start[axis] for axis in perm), tuple(replace(w, axis=new[w.axis]) for w in box.walks))


def sliced(
    box: Box, shape: Sequence[int], begin: Sequence[int], step: Sequence[int], out: Sequence[int]
) -> tuple[Box, tuple[slice, ...]] | None:
    """The part of a box that a slice keeps, as a box of the slice, and the slices that cut an array to it."""
    start, walks = list(box.start), list(box.walks)
    cuts = [slice(None)] * len(walks)
    for axis, (size, first, jump, kept) in enumerate(zip(shape, begin, step, out, strict=True)):
        if (first, jump, kept) == (0, 1, size):
            continue
        along = [i for i, w in enumerate(walks) if w.axis == axis and w.count > 1]
        if jump < 1 or len(along) > 1 or any(walks[i].step != 1 for i in along):
            return None
        n = walks[along[0]].count if along else 1
        low = max(0, -((first - start[axis]) // jump))  # of the slice's indices
        high = min(kept - 1, (start[axis] + n - 1 - first) // jump)
        if high < low:
            return Box((0,) * len(start), (Walk(0, 0, 0),) * len(walks)), tuple(cuts)
        offset = first + low * jump - start[axis]
        if along:
            cuts[along[0]] = slice(offset, offset + (high - low) * jump + 1, jump)
            walks[along[0]] = Walk(axis, 1, high - low + 1)
        start[axis] = low
    return Box(tuple(start), tuple(walks)), tuple(cuts)


def extent(array: Array) -> tuple[int, int]:
    """First and last address of an array's bytes, the last one excluded."""
    low = high = address(array)
    for n, stride in zip(array.shape, array.strides, strict=True):
        if stride < 0:
            low += (n - 1) * stride
        else:
            high += (n - 1) * stride
    return low, high + array.itemsize


def overlap(a: Array, b: Array) -> bool:
    """Whether two arrays may share a byte."""
    (a0, a1), (b0, b1) = extent(a), extent(b)
    if a1 <= b0 or b1 <= a0:
        return False
    try:
        return np.shares_memory(a, b, max_work=2000)  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        return True
