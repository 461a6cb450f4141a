"""The hierarchy of errors."""

from __future__ import annotations

import pickle

import pytest

from openkpu import errors


@pytest.mark.parametrize(
    "kind", [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, errors.OpenKPUError)]
)
def test_an_error_survives_the_way_to_another_process(kind: type[errors.OpenKPUError]) -> None:
    error = kind("E999", "what", where="here", why="because", fix="do that")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == str(error)
    assert again.as_dict() == error.as_dict()
