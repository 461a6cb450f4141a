"""Writing files: whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from openkpu.errors import SetupError
from openkpu.files import check_writable, write_file


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    write_file(target, "één")
    write_file(target, b"two")
    assert target.read_bytes() == b"two"
    assert list(tmp_path.iterdir()) == [target]


def test_a_failure_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "a.txt"
    write_file(target, "old")

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", refuse)
    with pytest.raises(SetupError, match="No space left"):
        write_file(target, "new")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_that_takes_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_writable(tmp_path / "new.kmodel")
    assert list(tmp_path.iterdir()) == []

    def refuse(**_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(SetupError, match=f"into the folder {tmp_path}"):
        check_writable(tmp_path / "new.kmodel")


def test_the_file_that_is_read_is_not_replaced(tmp_path: Path) -> None:
    source = tmp_path / "only.kmodel"
    source.write_bytes(b"model")
    link = tmp_path / "link.kmodel"
    link.symlink_to(source)
    check_writable(tmp_path / "other.kmodel", source)
    for name in (source, link):
        with pytest.raises(SetupError, match="would be replaced by the result"):
            check_writable(name, tmp_path / "absent", source)
