"""``kpu eval``."""

import json
import shutil

import pytest


@pytest.fixture
def labelled(pictures, tmp_path):
    """The five pictures, in two classes."""
    for i, file in enumerate(sorted(pictures.iterdir())):
        folder = tmp_path / "labelled" / ("even", "odd")[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, folder)
    return tmp_path / "labelled"


@pytest.fixture
def compiled(kpu, net, pictures, tmp_path):
    out = tmp_path / "net.kmodel"
    assert kpu("compile", net, "--calibration", pictures, "-o", out).exit_code == 0
    return out


def test_eval_against_the_float_model(kpu, net, compiled, labelled, tmp_path):
    (tmp_path / "labels.txt").write_text("even\nodd\nthird\nfourth\n")
    result = kpu("eval", compiled, "--data", labelled, "--model", net, "--labels", tmp_path / "labels.txt", "--jobs", 1)
    assert result.exit_code == 0, result.stderr
    for part in ("5 pictures", "Right class", "KPU", "float", "95 % interval", "same best class", "Classes", "even"):
        assert part in result.stdout


def test_eval_as_json_with_a_record(kpu, compiled, labelled, tmp_path):
    record = tmp_path / "record"
    args = ("eval", compiled, "--data", labelled, "--metric", "top5", "--jobs", 1, "--resume", record, "--json")
    first, second = (json.loads(kpu(*args).stdout) for _ in range(2))
    assert first["kpu"] == second["kpu"] == 1.0  # four classes: the right one is among the best five
    assert (first["resumed"], second["resumed"]) == (0, 5)
    assert [c["label"] for c in first["classes"]] == ["even", "odd"]


def test_eval_explains_what_is_missing(kpu, compiled, labelled):
    result = kpu("eval", compiled, "--data", labelled, "--metric", "map")
    assert result.exit_code == 1
    assert "E465" in result.stderr
    assert "--anchors" in result.stderr
