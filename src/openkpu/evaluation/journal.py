"""The record of an evaluation under way, so that one that was broken off goes on where it stopped.

One line of JSON for each shard, written through to the disk. The first line holds the fingerprint of everything that
decides the answers; a record with another one is never mixed in. A last line that was cut off counts as not there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TextIO

from openkpu.errors import InputError, SetupError
from openkpu.evaluation.job import Answer


class Journal:
    """An open record; ``answers`` are those that it held already. Close it, or use it in a ``with`` statement."""

    def __init__(self, path: Path, fingerprint: str) -> None:
        self.answers: dict[int, Answer] = {}
        try:
            self._file: TextIO = self._open(path, fingerprint)
        except OSError as error:
            raise SetupError(
                "E511", f"the record {path} cannot be written", where=str(path), why=str(error), fix="Check the folder."
            ) from error

    def _open(self, path: Path, fingerprint: str) -> TextIO:
        whole = 0
        if path.exists() and path.stat().st_size:
            lines = path.read_bytes().split(b"\n")
            whole = sum(len(line) + 1 for line in lines[:-1])  # what follows the last line break was cut off
            if len(lines) > 1:
                self._check(path, lines[0], fingerprint)
                for line in lines[1:-1]:
                    self._take(path, line)
        file = path.open("r+" if path.exists() else "w", encoding="utf-8")
        file.truncate(whole)
        file.seek(whole)
        if whole == 0:
            self._line(file, {"openkpu evaluation": 1, "fingerprint": fingerprint})
        return file

    @staticmethod
    def _check(path: Path, line: bytes, fingerprint: str) -> None:
        try:
            known = json.loads(line)["fingerprint"]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                "E463",
                "the file to resume from is no record of an evaluation",
                where=str(path),
                why="its first line has no fingerprint",
                fix="give another file name; this one is left as it is",
            ) from error
        if known != fingerprint:
            raise InputError(
                "E464",
                "the record belongs to another evaluation",
                where=str(path),
                why="the kmodel, the float model, the pictures, their labels or an option are not those of then",
                fix="give another file name, or the same models, pictures and options",
            )

    def _take(self, path: Path, line: bytes) -> None:
        try:
            for number, kpu, reference in json.loads(line):
                self.answers[int(number)] = Answer(
                    int(number), _found(kpu), None if reference is None else _found(reference)
                )
        except (ValueError, TypeError) as error:
            raise InputError(
                "E463",
                "the record of the evaluation is damaged",
                where=str(path),
                why=f"a line in it is {line[:60]!r}",
                fix="begin again with another file name",
            ) from error

    def add(self, answers: Iterable[Answer]) -> None:
        """Write a shard's answers through to the disk."""
        self._line(self._file, [[a.number, a.kpu, a.reference] for a in answers])

    @staticmethod
    def _line(file: TextIO, data: Any) -> None:
        file.write(json.dumps(data, separators=(",", ":")) + "\n")
        file.flush()
        os.fsync(file.fileno())

    def close(self) -> None:
        """Close the file; it stays."""
        self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _found(value: Any) -> Any:
    """Bring what JSON made of an answer back to its form."""
    return [tuple(v) if isinstance(v, list) else int(v) for v in value]
