"""The self-learning classifier: k-means over the features of a model, seeded by one picture a class."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from openkpu.board.device import Device
from openkpu.maixpy import mp
from openkpu.maixpy.kpu.net import kpu_net

Floats = NDArray[np.float32]
FEATURES: Final = 768
EPERM, EINVAL, ERANGE = 1, 22, 34
_HEADER: Final = struct.Struct("<IifI")
_COUNTS: Final = struct.Struct("<HH")
SAMPLE: Final = -2.0
"""The value that marks a sample in a file; a class has 0."""
MAX_ROUNDS: Final = 10_000
"""The firmware has no limit; distances of finite sets of pictures settle long before."""


class classifier:  # noqa: N801
    """Learns classes from pictures. ``bind`` makes the class for one board."""

    _device: Device
    _feature: Callable[[kpu_net, Any, int], Floats]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._ready = False
        if len(args) < 3:
            raise ValueError("model, class num, sample num")
        if type(args[0]) is not kpu_net:
            raise ValueError("model")
        self._set_up(args[0], mp.need_int(args[1]), mp.need_int(args[2]), mp.need_int(kwargs.get("fea_len", 0)))

    def _set_up(self, model: kpu_net, class_num: int, sample_num: int, length: int) -> None:
        self._model = model
        self._class_num = class_num
        self._sample_num = sample_num
        self._length = length or FEATURES
        self._classes: list[Floats | None] = []
        self._samples: list[Floats] = []
        self._ready = True

    def _of(self, img: Any) -> Floats:
        return type(self)._feature(self._model, img, self._length)

    def add_class_img(self, img: Any, idx: int = -1) -> int:
        """Seed a class (the next one, or number ``idx``); returns its number."""
        idx = mp.need_int(idx)
        place = len(self._classes) if idx < 0 else idx
        if place >= self._class_num:
            raise mp.os_error(EPERM)
        feature = self._of(img)
        while len(self._classes) <= place:
            self._classes.append(None)
        self._classes[place] = feature
        return place

    def rm_class_img(self) -> int:
        """Forget the last class; returns the count before."""
        if not self._classes:
            raise mp.os_error(EPERM)
        self._classes.pop()
        return len(self._classes) + 1

    def add_sample_img(self, img: Any) -> int:
        """Add a picture to learn from; returns its number."""
        if len(self._samples) >= self._sample_num:
            raise mp.os_error(EPERM)
        self._samples.append(self._of(img))
        return len(self._samples) - 1

    def rm_sample_img(self) -> int:
        """Forget the last picture; returns the count before minus 2, as the firmware does."""
        if not self._samples:
            raise mp.os_error(EPERM)
        self._samples.pop()
        return len(self._samples) - 1

    def train(self) -> None:
        """Move every class to the middle of the pictures nearest to it, until nothing changes."""
        classes = [c for c in self._classes if c is not None]
        if len(classes) < self._class_num or not self._samples:
            raise mp.os_error(EPERM)
        centres, samples = np.stack(classes), np.stack(self._samples)
        last = None
        for _ in range(MAX_ROUNDS):
            distances = np.stack([_distances(s, centres) for s in samples])
            nearest = distances.argmin(axis=1)
            total = np.float32(0)
            for d in distances.min(axis=1):
                total += d
            if last is not None and total == last:
                break
            last = total
            for c in range(len(centres)):
                mine = samples[nearest == c]
                if len(mine):
                    centres[c] = mine.sum(axis=0, dtype=np.float32) / np.float32(len(mine))
        self._classes = list(centres)
        self._samples = []

    def predict(self, img: Any) -> tuple[int, float]:
        """The nearest class and its distance."""
        feature = self._of(img)
        known = [(i, c) for i, c in enumerate(self._classes) if c is not None]
        if not known:
            raise mp.os_error(EPERM)
        distances = _distances(feature, np.stack([c for _, c in known]))
        best = int(distances.argmin())
        return known[best][0], float(distances[best])

    def save(self, path: Any) -> None:
        """Write classes and pictures to a file of the board."""
        if not isinstance(path, str):
            raise ValueError("path err")
        rows = [(0.0, c) for c in self._classes if c is not None] + [(SAMPLE, s) for s in self._samples]
        data = _COUNTS.pack(len(rows) - len(self._samples), len(self._samples))
        for value, feature in rows:
            data += _HEADER.pack(feature.size, 0, value, 0) + feature.astype("<f4").tobytes()
        type(self)._device.write(path, data)

    @classmethod
    def load(cls, model: Any, path: Any, *args: Any, **kwargs: Any) -> tuple[classifier, int, int]:
        """Read what ``save`` wrote; returns the classifier and its numbers of classes and pictures."""
        if isinstance(model, classifier):
            raise ValueError("must be class")
        if type(model) is not kpu_net:
            raise ValueError("must be model")
        if type(path) is not str:
            raise ValueError("path err")
        data = cls._device.open(path)
        counts = [mp.need_int(a) for a in args[:2]] + [0, 0]
        length = mp.need_int(kwargs.get("fea_len", 0)) or FEATURES
        made = cls.__new__(cls)
        classes, samples = _read(data, length)
        class_num, sample_num = counts[0] or len(classes), counts[1] or len(samples)
        if len(classes) > class_num or len(samples) > sample_num:
            raise mp.os_error(ERANGE)
        made._set_up(model, class_num, sample_num, length)
        made._classes = list(classes)
        made._samples = samples
        return made, class_num, sample_num

    def __del__(self) -> None:
        if getattr(self, "_ready", False):
            device = type(self)._device
            device.discard(lambda: device.print("classifier __del__\r\n"))


def _distances(feature: Floats, centres: Floats) -> Floats:
    """Euclidean distances to every centre, float32."""
    difference = centres - feature
    result: Floats = np.sqrt((difference * difference).sum(axis=1, dtype=np.float32))
    return result


def _read(data: bytes, length: int) -> tuple[list[Floats], list[Floats]]:
    """Parse a saved classifier; EINVAL when it has other features or is cut off."""
    if len(data) < _COUNTS.size:
        raise mp.os_error(EINVAL)
    classes, samples = _COUNTS.unpack_from(data, 0)
    rows: list[Floats] = []
    position = _COUNTS.size
    for _ in range(classes + samples):
        if position + _HEADER.size > len(data):
            raise mp.os_error(EINVAL)
        size, _, _, _ = _HEADER.unpack_from(data, position)
        position += _HEADER.size
        if size != length or position + 4 * size > len(data):
            raise mp.os_error(EINVAL)
        rows.append(np.frombuffer(data, "<f4", size, position).astype(np.float32))
        position += 4 * size
    return rows[:classes], rows[classes:]


def bind(device: Device, feature: Callable[[kpu_net, Any, int], Floats]) -> type[classifier]:
    """Make the class for one board; ``feature(model, image, length)`` runs the model."""
    return type("classifier", (classifier,), {"_device": device, "_feature": staticmethod(feature)})
