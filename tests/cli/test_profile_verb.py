"""``kpu profile`` from the command line."""

import csv
import json

import pytest
from typer.testing import CliRunner

from openkpu.analyze.profile import COLUMNS
from openkpu.api import Model
from openkpu.cli.app import app
from tests.program_builders import conv, program


@pytest.fixture
def kmodel(tmp_path):
    path = tmp_path / "net.kmodel"
    Model(program(conv(0, 8000, 3, 16, 32, 64, k=3), conv(8000, 0, 16, 8, 32, 64, to_main=0))).save(path)
    return path


def kpu(*arguments):
    return CliRunner().invoke(app, ["profile", *map(str, arguments)])


def test_text(kmodel):
    done = kpu(kmodel)
    assert done.exit_code == 0
    assert "2 layers in 1 segment" in done.output
    assert "What to do" in done.output


def test_json_and_clocks(kmodel):
    slow = json.loads(kpu(kmodel, "--json").output)
    fast = json.loads(kpu(kmodel, "--json", "--kpu-mhz", 500, "--cpu-mhz", 600).output)
    assert slow["file"] == str(kmodel)
    assert (fast["kpu_mhz"], fast["cpu_mhz"]) == (500, 600)
    assert fast["ms"] < slow["ms"]
    assert [tuple(s) for s in slow["steps"]] == [COLUMNS] * 3


def test_csv(kmodel, tmp_path):
    target = tmp_path / "layers.csv"
    target.write_text("old")
    assert kpu(kmodel, "--csv", target).exit_code == 0
    rows = list(csv.reader(target.open(newline="")))
    assert rows[0] == list(COLUMNS)
    assert len(rows) == 4
    assert {p.name for p in tmp_path.iterdir()} == {"net.kmodel", "layers.csv"}


def test_csv_that_cannot_be_written(kmodel, tmp_path):
    done = kpu(kmodel, "--csv", tmp_path / "no" / "layers.csv")
    assert done.exit_code != 0
    assert "E511" in done.output + getattr(done, "stderr", "")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--kpu-mhz", "5000"], "E443"),
        (["--cpu-mhz", "nan"], "E443"),
        (["--sort", "name"], "neither order nor ms"),
        (["--top", "0"], "--top"),
    ],
)
def test_bad_options(kmodel, arguments, text):
    done = kpu(kmodel, *arguments)
    assert done.exit_code != 0
    assert text in done.output + getattr(done, "stderr", "")


def test_top_and_sort(kmodel):
    done = kpu(kmodel, "--sort", "ms", "--top", "1")
    assert done.exit_code == 0
    assert "and 2 steps with" in done.output
