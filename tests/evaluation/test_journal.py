"""The record of an evaluation: whole lines count, foreign records are left alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from openkpu.errors import InputError, SetupError
from openkpu.evaluation.job import Answer
from openkpu.evaluation.journal import Journal

ANSWERS = [Answer(0, [3, 1], None), Answer(5, [(1, 0.5, 0.0, 0.1, 0.2, 0.3)], [(2, 0.25, 0.0, 0.0, 1.0, 1.0)])]


def test_it_goes_on_where_it_stopped(tmp_path: Path) -> None:
    path = tmp_path / "record"
    with Journal(path, "abc") as journal:
        assert journal.answers == {}
        journal.add(ANSWERS)
    with Journal(path, "abc") as journal:
        assert journal.answers == {a.number: a for a in ANSWERS}
        journal.add([Answer(7, [1], [2])])
    with Journal(path, "abc") as journal:
        assert sorted(journal.answers) == [0, 5, 7]


def test_a_line_that_was_cut_off_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "record"
    with Journal(path, "abc") as journal:
        journal.add(ANSWERS[:1])
        journal.add(ANSWERS[1:])
    whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        with Journal(path, "abc") as journal:
            missing = [a for a in ANSWERS if a.number not in journal.answers]
            for a in missing:
                journal.add([a])
        assert path.read_bytes() == whole


def test_what_is_no_record_of_this_evaluation_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "record"
    with Journal(path, "abc") as journal:
        journal.add(ANSWERS)
    before = path.read_bytes()
    with pytest.raises(InputError, match="E464"):
        Journal(path, "xyz")
    assert path.read_bytes() == before
    for text in (
        "my thesis\nsecond line\n",
        '{"fingerprint": "abc"}\n{"x": 1}\n',
        '{"fingerprint": "abc"}\n[[1, 2]]\n',
    ):
        path.write_text(text)
        with pytest.raises(InputError, match="E463"):
            Journal(path, "abc")
        assert path.read_text() == text
    with pytest.raises(SetupError, match="E511"):
        Journal(tmp_path / "absent" / "record", "abc")
