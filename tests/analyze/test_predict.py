import numpy as np
import program_builders as build
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from openkpu.analyze.predict import Prediction, fitting, is_vector, predict, rank, readings
from openkpu.api import Model
from openkpu.errors import InputError


def test_probabilities_and_scores_are_told_apart():
    r = rank(np.array([0.1, 0.7, 0.2], np.float32), ["a", "b", "c"])
    assert r.kind == "probabilities"
    assert [(e.label, e.index) for e in r.entries] == [("b", 1), ("c", 2), ("a", 0)]
    assert r.entries[0].share == pytest.approx(0.7)
    r = rank(np.array([-1.0, 3.0], np.float32))
    assert r.kind == "scores"
    assert r.entries[0].label == "1"
    assert r.entries[0].share == pytest.approx(1 / (1 + np.exp(-4)))


def test_bytes_count_as_fractions():
    assert rank(np.array([0, 255, 0], np.uint8)).kind == "probabilities"


@given(arrays(np.float32, st.integers(2, 30), elements=st.floats(-50, 50, width=32)), st.integers(1, 40))
def test_the_largest_come_first(values, top):
    entries = rank(values, top=top).entries
    assert [e.value for e in entries] == sorted(map(float, values), reverse=True)[:top]
    assert sum(e.share for e in entries) <= 1 + 1e-6


def test_labels_go_to_the_outputs_that_they_fit():
    two = [Prediction("x", (np.arange(3.0), np.arange(4.0), np.zeros((2, 2))), 0.1)]
    first, second, third = readings(two, ["a", "b", "c"])[0]
    assert first.entries[0].label == "c"
    assert second.entries[0].label == "3"
    assert third is None
    assert fitting(["a", "b", "c", "d"], two) is not None


def test_labels_must_fit_some_output():
    one = [Prediction("x", (np.zeros(3, np.float32),), 0.1)]
    assert fitting(["a", "b"], one) is None
    with pytest.raises(InputError) as caught:
        readings(one, ["a", "b"], origin="names.txt")
    assert caught.value.code == "E434"
    assert caught.value.where == "names.txt"


def test_vectors():
    assert is_vector(np.zeros((10,)))
    assert is_vector(np.zeros((10, 1, 1)))
    assert not is_vector(np.zeros((2, 5)))
    assert not is_vector(np.zeros((1,)))


def test_a_model_of_floats_runs_on_arrays(tmp_path):
    model = Model(build.program(build.fully_connected(0, 64, 4, 3)))
    x = np.array([[1, 2, 3, 4], [0, 0, 0, 0]], np.float32)
    np.save(tmp_path / "x.npy", x)
    results = predict(model, [tmp_path / "x.npy"], trace=tmp_path / "trace", check=True)
    assert len(results) == 2
    for p, row in zip(results, x, strict=True):
        np.testing.assert_array_equal(p.outputs[0], model.run(row)[0])
        assert p.findings == ()
    assert len(list((tmp_path / "trace").rglob("000_FullyConnected.npy"))) == 2
