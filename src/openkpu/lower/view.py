"""A picture inside a feature map.

The KPU always computes maps of the input's size (divided by the pooling). A convolution with less padding, or a stride
that no pooling can express yet, therefore leaves its result as a part of a larger map. A ``View`` says which part, and
the following layers work on the whole map as long as the pixels outside do not matter; only when they do is the part
cut out. So ``valid`` convolutions in a row cost one crop at the end instead of one each.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from openkpu.graph.ir import Tensor
from openkpu.kpu.fmap import FeatureMapLayout


@dataclass(frozen=True, slots=True)
class View:
    """Pixel (y, x) of the picture is pixel ``(top + step*y, left + step*x)`` of ``tensor``, of shape (1, C, H, W)."""

    tensor: Tensor
    top: int
    left: int
    height: int
    width: int
    step: int = 1
    clean: bool = False
    """Whether everything outside the picture is 0.0, as a padding would be."""

    @classmethod
    def whole(cls, tensor: Tensor) -> View:
        """See a tensor as it is."""
        return cls(tensor, 0, 0, tensor.shape[2], tensor.shape[3])

    @property
    def is_whole(self) -> bool:
        """Whether the picture is the whole map."""
        return (self.top, self.left, self.step) == (0, 0, 1) and self.size == self.physical

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the picture."""
        return self.height, self.width

    @property
    def physical(self) -> tuple[int, int]:
        """Height and width of the map."""
        return self.tensor.shape[2], self.tensor.shape[3]

    @property
    def channels(self) -> int:
        """Channels of the map."""
        return self.tensor.shape[1]

    @property
    def layout(self) -> FeatureMapLayout:
        """How the map lies in AI RAM."""
        return FeatureMapLayout(self.channels, *self.physical)

    @property
    def fills_lines(self) -> bool:
        """Whether the channels fill whole lines of AI RAM, so that another map can follow channel by channel."""
        return self.channels % self.layout.group == 0

    def spread_out(self) -> View:
        """Return the part of the map that the picture's pixels span, with the pixels in between."""
        height, width = (n * self.step - self.step + 1 for n in self.size)
        return replace(self, height=height, width=width, step=1, clean=False)

    def on(self, tensor: Tensor) -> View:
        """Return the same part of another map of the same size, whose surroundings may hold anything."""
        return replace(self, tensor=tensor, clean=False)

    def same_place(self, other: View) -> bool:
        """Whether both are the same part of maps of the same size."""
        return self.physical == other.physical and self.place == other.place

    @property
    def place(self) -> tuple[int, int, int, int, int]:
        """Top, left, height, width, step."""
        return self.top, self.left, self.height, self.width, self.step
