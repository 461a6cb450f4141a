"""Where the display's frames go: a PNG of the last one, an animated GIF, a window."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from openkpu.errors import BoardError, SetupError

Pixels = NDArray[np.uint8]
GIF_FRAMES: Final = 600
"""Most frames of a GIF: 20 s at 30 frames a second. What comes later is not recorded."""
GIF_STEP_MS: Final = 10
"""GIF counts hundredths of a second."""


class Recorder(Protocol):
    """Takes frames; ``close`` after the last one."""

    def frame(self, pixels: Pixels, number: int, us: float) -> None:
        """Take RGB888 (h, w, 3); the same number again replaces the frame before."""

    def close(self) -> None:
        """Finish."""


class Png:
    """Keeps the last frame."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last: Pixels | None = None

    def frame(self, pixels: Pixels, number: int, us: float) -> None:
        """Keep a frame."""
        self._last = pixels

    def close(self) -> None:
        """Write the file, if there was a frame."""
        if self._last is not None:
            from PIL import Image

            _replace(self._path, lambda file: Image.fromarray(self._last).save(file, "PNG"))


class Gif:
    """All frames up to ``GIF_FRAMES``, shown as long as the board showed them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._frames: list[tuple[int, float, Any]] = []

    def frame(self, pixels: Pixels, number: int, us: float) -> None:
        """Keep a frame."""
        from PIL import Image

        if self._frames and self._frames[-1][0] == number:
            self._frames.pop()
        if len(self._frames) < GIF_FRAMES:
            small = Image.fromarray(pixels).quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
            self._frames.append((number, us, small))

    def close(self) -> None:
        """Write the file, if there was a frame."""
        if not self._frames:
            return
        times = [us / 1000 for _, us, _ in self._frames]
        gaps = [b - a for a, b in pairwise(times)]
        gaps.append(gaps[-1] if gaps else 1000.0)
        steps = [max(2, round(g / GIF_STEP_MS)) * GIF_STEP_MS for g in gaps]
        first, *rest = (f for _, _, f in self._frames)
        _replace(
            self._path,
            lambda file: first.save(
                file, "GIF", save_all=True, append_images=rest, duration=steps, loop=0, optimize=False
            ),
        )


class Window:
    """A window of this computer."""

    SCALE: Final = 2

    def __init__(self) -> None:
        try:
            import tkinter

            self._root = tkinter.Tk()
        except Exception as error:  # no tkinter, no display, no permission: tkinter.TclError cannot be named before
            raise SetupError(
                "E501",
                "a window cannot be opened",
                where="option display",
                why=str(error),
                fix="Install tkinter and run it on a desktop, or use --display FILE.gif.",
            ) from error
        self._root.title("MaixPy display")
        self._label = tkinter.Label(self._root)
        self._label.pack()
        self._photo: Any = None

    def frame(self, pixels: Pixels, number: int, us: float) -> None:
        """Show a frame."""
        import tkinter

        h, w = pixels.shape[:2]
        data = b"P6 %d %d 255 " % (w, h) + pixels.tobytes()
        self._photo = tkinter.PhotoImage(data=data, format="PPM").zoom(self.SCALE)
        self._label.configure(image=self._photo)
        self._root.update()

    def close(self) -> None:
        """Close the window."""
        self._root.destroy()


def recorder_for(display: str) -> Recorder | None:
    """Make what the option ``display`` asks for; ``BoardError`` E611 when it is nothing known."""
    if display == "none":
        return None
    if display == "window":
        return Window()
    path = Path(display)
    kinds: dict[str, type[Gif] | type[Png]] = {".gif": Gif, ".png": Png}
    kind = kinds.get(path.suffix.lower())
    if kind is None or not path.absolute().parent.is_dir():
        raise BoardError(
            "E611",
            f"the display cannot go to {display!r}",
            where="option display",
            why="there is no such folder" if kind is not None else "it ends neither in .gif nor in .png",
            fix="Use FILE.gif (all frames), FILE.png (the last one), window or none.",
        )
    return kind(path)


def _replace(path: Path, write: Any) -> None:
    """Write under a temporary name, then rename."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            write(file)
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise SetupError(
            "E511", f"{path} cannot be written", where=str(path), why=str(error), fix="Check the folder."
        ) from error
