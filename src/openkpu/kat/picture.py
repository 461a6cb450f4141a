"""The test's input, in a form that reaches the KPU of a board bit by bit.

A picture that a script makes has RGB565 pixels, and ``pix_to_ai()`` widens their 5, 6 and 5 bits to 8 for the KPU. So
the test's picture is rounded to 5/6/5 bits first: what the board's planes hold then is what the simulator runs on.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from openkpu.errors import InputError, MemoryLimitError, SetupError
from openkpu.float.data import load_picture
from openkpu.kmodel.program import DType, Program

NOISE: Final = "noise"
"""The built-in input: random, the same for the same shape."""
SCRIPT_HEAP: Final = 512 * 1024 - 96 * 1024
"""Bytes of MicroPython's heap for the input: its default size without the script itself and what it reads."""
FLOAT_BYTES: Final = 48
"""What one number of a list costs there: its place in the list, the number (a block of 32) and a share of the tuple."""


@dataclass(frozen=True, slots=True, eq=False)
class TestInput:
    """What the simulator runs on, and the bytes in flash from which the script makes the same."""

    __test__ = False

    array: NDArray[Any]
    stored: bytes
    kind: str
    """"rgb": 16-bit words as an image holds them, "gray": bytes, "list": float32."""
    title: str


def rounded(planes: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], bytes]:
    """Round planes (3, h, w) to 5/6/5 bits; return what ``pix_to_ai`` makes of them, and the image's bytes.

    The bytes are big-endian words RRRRRGGG GGGBBBBB, row by row.
    """
    most = np.array([31, 63, 31], np.uint32).reshape(3, 1, 1)
    bits = (planes.astype(np.uint32) * (2 * most) + 255) // 510
    wide = ((bits * 510 + most) // (2 * most)).astype(np.uint8)
    words = bits[0] << 11 | bits[1] << 5 | bits[2]
    return wide, words.astype(">u2").tobytes()


def test_input(program: Program, source: str, name: str) -> TestInput:
    """Make the input of a model: from a picture's path, or ``NOISE``.

    E331: no room for it in the script's memory. E472: the model takes neither one picture nor one list of numbers.
    E474: a picture for a model of numbers. E453, E510: the picture cannot be read, or is not there.
    """
    if len(program.inputs) != 1:
        raise _refused(name, f"it has {len(program.inputs)} inputs; kpu.forward takes one")
    operand = program.inputs[0]
    shape = operand.shape[-3:]
    rng = np.random.default_rng(565)
    if operand.dtype is DType.F32:
        if source != NOISE:
            raise InputError(
                "E474",
                f"{name} takes numbers, not a picture",
                where=f"--kat {source}",
                why=f"its input is float32 {operand.shape}, which a script passes as a list",
                fix=f"Use --kat {NOISE}.",
            )
        _check_room(name, operand.elements * FLOAT_BYTES, f"a list of {operand.elements} numbers")
        floats = (rng.integers(-256, 257, operand.shape) / 256).astype("<f4")  # exact in every format
        return TestInput(floats, floats.tobytes(), "list", f"{operand.elements} numbers")
    if len(shape) != 3 or operand.elements != shape[0] * shape[1] * shape[2] or shape[0] not in (1, 3):
        raise _refused(name, f"its input is {operand.shape}; an image of MaixPy has 1 or 3 channels")
    c, h, w = shape
    if source == NOISE:
        planes = rng.integers(0, 256, shape, np.uint8)
        title = f"noise, {w}x{h}"
    else:
        if not Path(source).is_file():
            raise SetupError("E510", f"there is no file {source}", where=f"--kat {source}", fix="Check the path.")
        planes = load_picture(Path(source), shape)
        title = f"{Path(source).name}, {w}x{h}"
    _check_room(name, w * h * (2 if c == 1 else 2 + 3) + (0 if c == 1 else 3 * h * (-w % 64)), f"an image of {w}x{h}")
    if c == 1:
        return TestInput(planes.reshape(operand.shape), planes.tobytes(), "gray", f"{title}, gray")
    wide, stored = rounded(planes)
    return TestInput(wide.reshape(operand.shape), stored, "rgb", f"{title}, 5/6/5 bits")


def _refused(name: str, why: str) -> InputError:
    return InputError(
        "E472",
        f"{name} cannot be tested from a script",
        where=name,
        why=why,
        fix="Test a model with one picture (1 or 3 channels) or one list of numbers as its input.",
    )


def _check_room(name: str, size: int, what: str) -> None:
    if size > SCRIPT_HEAP:
        raise MemoryLimitError(
            "E331",
            f"the input of {name} does not fit into a script's memory",
            where=name,
            why=f"{what} takes {size} bytes; MicroPython's heap has {SCRIPT_HEAP} for it",
            fix="Test a copy of the model that is compiled for a smaller input.",
        )
