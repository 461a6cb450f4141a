"""The search for more accuracy: change one thing after the other, keep what helps, until a wished SNR is reached.

It starts from the way that ``Quantizer.choose`` finds and tries, in this order, every range method with every channel
spread, then stronger and weaker error feedback in rounding the weights. All trials run on pictures held back from the
calibration. A change counts only if it helps both halves of them, and one that clips must help by much: a search that
looks at few pictures often enough finds what fits those pictures and no others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from openkpu.errors import InputError
from openkpu.quantize import ranges
from openkpu.quantize.nodes import snr
from openkpu.quantize.result import CLIPPING_HANDICAP_DB, Quantized, Way, handicap

if TYPE_CHECKING:
    from openkpu.quantize.calibration import Calibration
    from openkpu.quantize.quantizer import Quantizer

SPREADS: Final = (0.5, 0.25, 0.0, 0.75, 1.0)
DAMPINGS: Final = (0.01, 0.2, float("inf"))
LEAST_GAIN_DB: Final = 0.05
LEAST_PICTURES: Final = 16
MIN_MAX: Final = "minmax"


@dataclass(frozen=True, slots=True)
class Trial:
    """One way that was tried: its SNR in dB on held-back pictures, and whether it became the best."""

    way: str
    snr_db: float
    kept: bool


@dataclass(frozen=True, slots=True)
class Searched:
    """What a search did; SNRs in dB on held-back pictures. ``before_db`` is that of the way it started from."""

    target_db: float
    before_db: float
    after_db: float
    trials: tuple[Trial, ...]

    @property
    def reached(self) -> bool:
        """Whether the wished SNR was reached."""
        return self.after_db >= self.target_db


def check(target_db: float, pictures: int) -> None:
    """Refuse what cannot be searched for: E416."""
    why = ""
    if not 0 < target_db <= 100:  # false for NaN too
        why = "the wished SNR lies above 0 and up to 100 dB"
        fix = "25 to 40 dB are usual for 8-bit networks"
    elif pictures < LEAST_PICTURES:
        why = f"there are {pictures} calibration pictures, and a search needs some to calibrate and others to judge by"
        fix = f"give at least {LEAST_PICTURES}, better 32"
    if why:
        raise InputError("E416", f"a search for {target_db:g} dB", where="--search", why=why, fix=fix)


class Search:
    """One search; ``fitted``, ``corrected``, ``judged`` are indices of pictures as in ``Quantizer.quantize``."""

    def __init__(
        self,
        quantizer: Quantizer,
        c: Calibration,
        target_db: float,
        fitted: Sequence[int],
        corrected: Sequence[int],
        judged: Sequence[int],
    ) -> None:
        self._quantizer, self._c, self._target = quantizer, c, target_db
        self._pictures = (fitted, corrected, judged)
        self._seen: dict[Way, tuple[float, float, float]] = {}
        self._trials: list[Trial] = []

    def run(self, start: Way) -> tuple[Way, Searched]:
        """Return the best way that was found, and the record."""
        best, before = start, self._try(start)[0]
        self._trials.append(Trial(str(start), before, True))
        for stage in (self._methods, self._rounding):
            best = self._improve(best, stage(best))
        after = self._seen[best][0]
        return best, Searched(self._target, before, after, tuple(self._trials))

    def _improve(self, best: Way, changes: Iterator[Way]) -> Way:
        for way in changes:
            if self._seen[best][0] >= self._target:
                break
            if way in self._seen:
                continue
            now, then = self._try(way), self._seen[best]
            clips = way.method != MIN_MAX and best.method == MIN_MAX
            least = handicap(CLIPPING_HANDICAP_DB, then[0]) if clips else LEAST_GAIN_DB
            kept = now[0] >= then[0] + least and all(a >= b for a, b in zip(now, then, strict=True))
            self._trials.append(Trial(str(way), now[0], kept))
            if kept:
                best = way
        return best

    def _try(self, way: Way) -> tuple[float, float, float]:
        """SNR on all judged pictures, and on both halves of them; the worst output counts."""
        fitted, corrected, judged = self._pictures
        result = self._quantizer.quantize(self._c, way, fitted, corrected, judged, compensate=True)
        halves = range(0, len(judged), 2), range(1, len(judged), 2)
        one, other = (self._snr(result, half) for half in halves)
        self._seen[way] = (result.snr_db, one, other)
        self._quantizer.progress("search", len(self._seen), len(self._seen) + 1)
        return self._seen[way]

    def _snr(self, result: Quantized, picked: range) -> float:
        _, corrected, judged = self._pictures
        places = [len(corrected) + i for i in picked]
        pictures = [judged[i] for i in picked]
        pairs = zip(self._c.outputs, result.outputs, strict=True)
        return min(snr(ref[pictures], out[places]) for ref, out in pairs)

    # -- what is tried ----------------------------------------------------------------------------------------------
    @staticmethod
    def _methods(best: Way) -> Iterator[Way]:
        for method in ranges.METHODS:
            for spread in SPREADS:
                yield replace(best, method=method, spread=spread)

    def _rounding(self, best: Way) -> Iterator[Way]:
        if self._quantizer.weight_bits == 8:
            for damping in DAMPINGS:
                yield replace(best, damping=damping)
