"""How a board is brought into its bootloader: the two control lines of the serial port drive RESET and IO16 (BOOT).

Which line drives which pin, and which way, depends on the adapter on the board; there are three kinds. A step of a
sequence is a list of line changes in order, ``dtr+`` for an active (low) line; between steps there is a pause. Source:
kflash.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Wiring:
    """The line changes that start the bootloader (``isp``) and the program in flash (``run``)."""

    isp: tuple[str, ...]
    run: tuple[str, ...]


RTS_RESETS: Final = Wiring(
    isp=("dtr- rts-", "dtr- rts+", "rts- dtr+"),
    run=("dtr- rts-", "dtr- rts+", "rts- dtr-"),
)
DTR_RESETS: Final = Wiring(
    isp=("dtr- rts-", "dtr+ rts-", "rts+ dtr-"),
    run=("dtr- rts-", "dtr+ rts-", "rts- dtr-"),
)
OLD_DAPLINK: Final = Wiring(
    isp=("dtr+ rts+", "rts- dtr+", "rts- dtr+"),
    run=("dtr- rts-", "rts- dtr+", "rts+ dtr+"),
)

BOARDS: Final[dict[str, tuple[str, Wiring]]] = {
    "dan": ("Maix Dock (Dan)", RTS_RESETS),
    "bit": ("Maix Bit", RTS_RESETS),
    "trainer": ("Maix trainer", RTS_RESETS),
    "bit_mic": ("Maix Bit with microphone", DTR_RESETS),
    "kd233": ("Kendryte KD233", DTR_RESETS),
    "goE": ("Maix Go, OpenEC firmware", DTR_RESETS),
    "goD": ("Maix Go, old CMSIS-DAP firmware", OLD_DAPLINK),
    "maixduino": ("Maixduino", DTR_RESETS),
}
"""Board -> what it is, and its wiring. The names are those of kflash's ``-B``."""

AUTOMATIC: Final = ("dan", "kd233", "goD", "kd233")
"""What is tried in turn when no board is given; one of each wiring."""
