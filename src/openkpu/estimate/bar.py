"""A time with its error bar."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Estimate:
    """Microseconds: the estimate, and the bounds between which the measured time is expected."""

    us: float
    low: float
    high: float

    @classmethod
    def within(cls, us: float, share: float) -> Estimate:
        """An estimate that may be off by a share of itself: 0.1 means 10 % in both directions."""
        return cls(us, us * (1 - share), us * (1 + share))

    @classmethod
    def factor(cls, us: float, factor: float) -> Estimate:
        """An estimate that may be off by a factor in both directions."""
        return cls(us, us / factor, us * factor)

    def __add__(self, other: Estimate) -> Estimate:
        """Add times. The bars add too: what one constant is off, it is off everywhere."""
        return Estimate(self.us + other.us, self.low + other.low, self.high + other.high)

    def __mul__(self, times: float) -> Estimate:
        """Repeat it, or change its clock."""
        return Estimate(self.us * times, self.low * times, self.high * times)

    def covers(self, us: float) -> bool:
        """Whether a measured time lies within the bounds."""
        return self.low <= us <= self.high


NOTHING = Estimate(0.0, 0.0, 0.0)


def total(parts: list[Estimate]) -> Estimate:
    """Add up."""
    result = NOTHING
    for part in parts:
        result = result + part
    return result
