"""The public face of a kmodel: ``load`` and ``Model``."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from openkpu.errors import FileFormatError, SetupError
from openkpu.files import write_file
from openkpu.k210 import MAIN_RAM_BYTES
from openkpu.kmodel.detect import FileKind, Kind, byteswap, detect
from openkpu.kmodel.program import KpuConv, Operand, Program, Step

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from openkpu.runtime.checks import Finding
    from openkpu.runtime.memories import Engine, Rounding
    from openkpu.runtime.memory import MemoryUse
    from openkpu.runtime.session import Session, Trace

MAX_FILE_BYTES: Final = 64 * 1024 * 1024  # four times the largest flash of a K210 board


def _read_v3(data: bytes) -> Program:
    from openkpu.kmodel import v3

    return v3.read(data)


def _write_v3(program: Program) -> bytes:
    from openkpu.kmodel import v3

    return v3.write(program)


def _read_v4(data: bytes) -> Program:
    from openkpu.kmodel import v4

    return v4.read(data)


def _write_v4(program: Program) -> bytes:
    from openkpu.kmodel import v4

    return v4.write(program)


def _read_v5(data: bytes) -> Program:
    from openkpu.kmodel import v5

    return v5.read(data)


def _write_v5(program: Program) -> bytes:
    from openkpu.kmodel import v5

    return v5.write(program)


_READERS: Final[dict[Kind, Callable[[bytes], Program]]] = {
    Kind.V3: _read_v3,
    Kind.V3_SWAPPED: lambda data: _read_v3(byteswap(data)),
    Kind.V4: _read_v4,
    Kind.V5: _read_v5,
}
_WRITERS: Final[dict[int, Callable[[Program], bytes]]] = {3: _write_v3, 4: _write_v4, 5: _write_v5}


class Model:
    """A program for the K210, from a file or from the compiler, ready to run on the simulated chip."""

    def __init__(
        self,
        program: Program,
        *,
        kind: FileKind | None = None,
        file_bytes: int | None = None,
        notes: tuple[str, ...] = (),
    ) -> None:
        self.program: Final = program
        self._kind = kind
        self._file_bytes = file_bytes
        self._notes = notes
        self._session: Session | None = None
        self._busy = threading.Lock()
        self.findings: list[Finding] = []
        """What the ``run(check=True)`` that ended last found, whichever thread it was in."""

    @property
    def version(self) -> int:
        """kmodel version."""
        return self.program.version

    @property
    def inputs(self) -> tuple[Operand, ...]:
        """Where the inputs go; ``.dtype`` and ``.shape`` say what ``run`` takes."""
        return self.program.inputs

    @property
    def outputs(self) -> tuple[Operand, ...]:
        """Where the outputs are; ``.dtype`` and ``.shape`` say what ``run`` returns."""
        return self.program.outputs

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps in order of execution."""
        return self.program.steps

    @property
    def kind(self) -> FileKind:
        """What file it came from (or would be saved as), and which firmware loads that."""
        if self._kind is None:
            self._kind = detect(self.to_bytes())
        return self._kind

    @property
    def memory(self) -> MemoryUse:
        """What it needs of the chip's memories."""
        from openkpu.runtime.memory import memory_use

        if self._file_bytes is None:
            self._file_bytes = len(self.to_bytes())
        return memory_use(self.program, self._file_bytes)

    @property
    def notes(self) -> list[str]:
        """What a user should know about this file, one sentence each."""
        notes = list(self._notes)
        last = self.steps[-1] if self.steps else None
        if self.version == 3 and isinstance(last, KpuConv) and last.main_output is None:
            notes.append(
                "The last layer leaves its result in AI RAM only: the device runtime runs past the end of such a model."
            )
        if any(isinstance(s, KpuConv) and s.layer.weights.itemsize == 2 for s in self.steps):
            notes.append("The weights have 16 bits; no shipped model is known that uses this mode of the chip.")
        if self.version == 4:
            from openkpu.runtime.v4_notes import notes as v4_notes

            notes += v4_notes(self.program)
        if self.version == 5:
            from openkpu.runtime.v5_notes import notes as v5_notes

            notes += v5_notes(self.program)
        if self.program.main_bytes > MAIN_RAM_BYTES:
            notes.append(
                f"The scratch buffer of {self.program.main_bytes} bytes is larger than the chip's main RAM "
                f"({MAIN_RAM_BYTES} bytes): no board can run this."
            )
        return notes

    def run(
        self,
        *arrays: NDArray[Any],
        trace: Trace | None = None,
        check: bool = False,
        engine: Engine = "native",
        threads: int = 1,
        rounding: Rounding = "device",
    ) -> list[NDArray[Any]]:
        """Run once on the simulated chip and return the outputs.

        ``arrays``: uint8 (c, h, w), or float32 (n,) where the model takes floats; a leading 1 is accepted.
        ``trace(index, step, array)`` sees every step's result. ``check=True`` also looks for memory mistakes and 36-bit
        overflow (slow) and leaves them in ``findings``. ``rounding="simulator"`` computes V4's quantise and dequantise
        as the vendor's PC simulator does, not as the chip. ``InputError`` (E42x) says what is wrong with an input.
        """
        from openkpu.runtime.session import Session

        how: dict[str, Any] = {"engine": engine, "threads": threads, "check": check, "rounding": rounding}
        if not self._busy.acquire(blocking=False):  # another thread is running this model: use memories of its own
            own = Session(self.program, **how)
            outputs = own.run(*arrays, trace=trace)
            if check:
                self.findings = own.findings
            return outputs
        try:
            session = self._session
            if session is None or any(getattr(session, name) != value for name, value in how.items()):
                session = self._session = Session(self.program, **how)
            outputs = session.run(*arrays, trace=trace)
            if check:
                self.findings = session.findings
            return outputs
        finally:
            self._busy.release()

    def to_bytes(self) -> bytes:
        """The kmodel file. The same program always gives the same bytes."""
        return _WRITERS[self.version](self.program)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the kmodel file: first under a temporary name, then renamed, so that no half file is ever seen."""
        write_file(path, self.to_bytes())


def load(source: str | os.PathLike[str] | bytes | bytearray | memoryview) -> Model:
    """Load a kmodel from a path or from bytes.

    A byte-swapped V3 file (made for ``kpu.load_flash``) is swapped back, which ``Model.notes`` mentions.
    ``SetupError`` E510 when the file cannot be read; ``FileFormatError`` E1xx, ``UnsupportedError`` E2xx or
    ``MemoryLimitError`` E3xx when it is not a model that can run.
    """
    data = bytes(source) if isinstance(source, bytes | bytearray | memoryview) else read_file(Path(source))
    kind = detect(data)
    reader = _READERS.get(kind.kind)
    if reader is None:
        raise FileFormatError(
            "E101",
            f"this file cannot be loaded: {kind.title}",
            where=_where(source),
            why="OpenKPU loads kmodel V3, V4 and V5",
            fix=kind.advice,
        )
    notes: tuple[str, ...] = ()
    if kind.kind is Kind.V3_SWAPPED:
        notes = ("Every 32-bit word of the file is byte-swapped, as kpu.load_flash wants it; it was swapped back.",)
    return Model(reader(data), kind=kind, file_bytes=len(data), notes=notes)


def _where(source: object) -> str:
    return "bytes in memory" if isinstance(source, bytes | bytearray | memoryview) else str(source)


def read_file(path: Path) -> bytes:
    """Return the bytes of a model file; E510 when it cannot be read, E102 when it is too large for any board."""
    try:
        if not path.is_file():
            why = "it is a folder" if path.is_dir() else "nothing has this name"
            raise SetupError("E510", f"there is no file {path}", where=str(path), why=why, fix="Check the path.")
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise FileFormatError(
                "E102",
                "the file is too large for a kmodel",
                where=str(path),
                why=f"{size} bytes; the limit is {MAX_FILE_BYTES}, a board's flash has 16 MiB",
                fix="Check the path.",
            )
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise SetupError(
            "E510",
            f"the file {path} cannot be read",
            where=str(path),
            why=str(error),
            fix="Check the path and its permissions.",
        ) from error
