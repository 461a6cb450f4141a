"""The float passes in their order; ``run`` applies them and optionally writes the graph as text after each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from openkpu.errors import SetupError
from openkpu.graph.ir import Graph, text
from openkpu.passes.average_behind_dense import average_behind_dense
from openkpu.passes.channel_pad import channel_pad
from openkpu.passes.choose_channels import choose_channels
from openkpu.passes.copies_as_concat import copies_as_concat
from openkpu.passes.expand_conv_transpose import expand_conv_transpose
from openkpu.passes.expand_prelu import expand_prelu
from openkpu.passes.fold_batch_norm import fold_batch_norm
from openkpu.passes.fold_channel_affine import fold_channel_affine
from openkpu.passes.fold_pad import fold_pad
from openkpu.passes.fold_transpose import fold_transpose
from openkpu.passes.fuse_elementwise import fuse_elementwise
from openkpu.passes.gather_pixels import gather_pixels
from openkpu.passes.join_slices import join_slices
from openkpu.passes.matmul_as_conv import matmul_as_conv
from openkpu.passes.planar_layout import planar_layout
from openkpu.passes.shuffles import write_out_shuffles
from openkpu.passes.softmax_of_pairs import softmax_of_pairs
from openkpu.passes.split_into_tiles import split_into_tiles
from openkpu.passes.split_large_depthwise import split_large_depthwise
from openkpu.passes.split_many_channels import split_many_channels
from openkpu.passes.write_out_norms import write_out_norms

PASSES: Final[tuple[Callable[..., None], ...]] = (
    planar_layout,
    fold_transpose,
    matmul_as_conv,
    join_slices,
    gather_pixels,
    expand_conv_transpose,
    write_out_shuffles,
    write_out_norms,
    copies_as_concat,
    fold_pad,
    channel_pad,
    fold_batch_norm,
    softmax_of_pairs,
    fold_channel_affine,
    expand_prelu,
    fuse_elementwise,
    choose_channels,
    average_behind_dense,
    split_many_channels,
    split_large_depthwise,
    split_into_tiles,
)


WITH_VERSION: Final = (expand_conv_transpose,)
"""Passes that compare with what the target's runtime has on the CPU."""


def run(graph: Graph, dump: Path | None = None, *, version: int = 3) -> None:
    """Apply all passes in place, for a kmodel of this version. With ``dump``, write ``NN_name.txt`` files there."""
    if dump is not None:
        _make_folder(dump)
        (dump / "00_import.txt").write_text(text(graph))
    for i, step in enumerate(PASSES, 1):
        if step in WITH_VERSION:
            step(graph, version)
        else:
            step(graph)
        graph.validate()
        if dump is not None:
            (dump / f"{i:02d}_{step.__name__}.txt").write_text(text(graph))


def _make_folder(dump: Path) -> None:
    """Make the folder and try to write there, so that nothing later fails halfway."""
    try:
        dump.mkdir(parents=True, exist_ok=True)
        probe = dump / ".probe"
        probe.write_text("")
        probe.unlink()
    except OSError as e:
        raise SetupError(
            "E512",
            "the folder for the dump cannot be written",
            where=str(dump),
            why=e.strerror or str(e),
            fix="give a folder that you may write to",
        ) from e
