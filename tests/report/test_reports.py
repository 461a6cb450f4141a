"""The reports on made-up results: what they say, and that they keep inside 80 columns."""

import io
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from openkpu.analyze.compare import Comparison, LayerComparison, OutputComparison
from openkpu.analyze.predict import Prediction, rank
from openkpu.analyze.yolo import Box
from openkpu.estimate.bar import Estimate
from openkpu.lower.context import Decision
from openkpu.quantize.search import Searched, Trial
from openkpu.report import check, compare, run
from openkpu.report import compile as card
from openkpu.report.console import Printer
from openkpu.report.words import cells

LONG = "StatefulPartitionedCall/model/block_13_depthwise_conv/BatchNorm/FusedBatchNormV3/Conv2D__1234"
KPU = Decision(LONG, "Conv + BatchNormalization + activation", "3x224x224 -> 16x112x112", "KPU", microseconds=900)
REWRITTEN = Decision(
    "stem",
    "Conv",
    "3x9x9 -> 4x9x9",
    "KPU after a rewrite",
    "split by output channels",
    "At most 64 weight loads. Here: 70.",
    "fewer channels",
    500,
    "CPU 9 ms",
)
CPU = Decision(
    "weird", "MaxPool", "4x9x9 -> 4x3x3", "CPU", "", "The KPU pools 2x2 and 4x4. Here: 3x3.", "pool 2x2", 600
)
USUAL = Decision("gap", "GlobalAveragePool", "4x9x9 -> 4x1x1", "CPU", "as usual", microseconds=100)


def printed(show, width=80):
    stream = io.StringIO()
    show(Printer(stream, width=width, color=False))
    return stream.getvalue()


def fits(text, width=80):
    return all(cells(line) <= width for line in text.splitlines())


@pytest.mark.parametrize("width", [80, 100, 120])
def test_check_names_rules_and_changes(width):
    text = printed(lambda p: check.show("net.onnx", [KPU, REWRITTEN, CPU, USUAL], p), width)
    assert fits(text, width)
    for part in ("The KPU pools 2x2 and 4x4. Here: 3x3.", "pool 2x2", "split by output channels", "CPU 9 ms"):
        assert part in text
    assert "Verdict: one layer on the CPU takes 29 % of the time: 'weird'" in text


def test_check_verdicts():
    assert check.verdict([KPU, USUAL]).startswith("fits the KPU: every layer")
    assert check.verdict([]) == "there is nothing to run in this model"
    assert "'weird'" in check.verdict([KPU, CPU])
    assert "costs little (1 layer)" in check.verdict([KPU, Decision("x", "Pad", "", "CPU", "", "r", "f", 10)])


def test_check_totals():
    data = check.as_dict("net.onnx", [KPU, REWRITTEN, CPU, USUAL])
    assert data["counts"] == {"KPU": 1, "KPU after a rewrite": 1, "CPU": 2, "not possible": 0}
    assert data["microseconds"] == 2100
    assert data["cpu_microseconds"] == 700


def test_reasons_that_agree_are_told_once():
    text = printed(lambda p: check.show("net.onnx", [CPU] * 5, p))
    assert text.count("Here: 3x3.") == 1
    assert "and 2 more" in text


def report(**changes):
    values = {
        "model": "net",
        "target": "v3",
        "decisions": (KPU, USUAL),
        "layers": (),
        "way": "kl, channel spread 0.5",
        "calibration_pictures": 32,
        "calibration_snr_db": 31.4,
        "ai_peak": 1 << 19,
        "ai_bound": 1 << 19,
        "main_peak": 4096,
        "main_bound": 2048,
        "file_bytes": 123456,
        "kpu_layers": 7,
        "kpu_segments": 1,
        "time": Estimate(12345.0, 11000.0, 15000.0),
        "cpu_copies": Estimate(1234.5, 1000.0, 1500.0),
        "cpu_operators": Estimate(617.0, 500.0, 700.0),
        "firmware": None,
        "firmware_bytes_left": None,
        "streaming": None,
        "seconds": 1.25,
        "searched": None,
        "weight_bits": 8,
        "weight_gain_db": None,
        "warnings": ("careful " * 20,),
    }
    return SimpleNamespace(**values | changes)


def test_card():
    text = printed(
        lambda p: card.show(report(), p, output="net.kmodel", notes=["n"], next_commands=["kpu run net.kmodel"])
    )
    assert fits(text)
    for part in (
        "7 layers in 1 segment",
        "512.0 KiB (25 % of 2.00 MiB), optimal",
        "31.4 dB",
        "120.6 KiB",
        "over the least possible",
        "about 12.3 ms a picture, estimated between 11.0 and 15.0 ms",
        "10 % input and output copies, 5 % operators on the CPU",
        "warning: careful",
        "kpu run net.kmodel",
        "1.2 s",
    ):
        assert part in text, part


def test_card_tells_of_the_search_and_of_16_bit_weights():
    trials = (Trial("minmax", 28.0, True), Trial("mse", 27.0, False), Trial("kl", 33.0, True))
    changed = report(searched=Searched(35.0, 28.0, 33.0, trials), weight_bits=16, weight_gain_db=0.2)
    text = printed(lambda p: card.show(changed, p, output="net.kmodel", notes=[], next_commands=[]))
    assert fits(text)
    flat = " ".join(text.split())
    assert "28.0 dB -> 33.0 dB in 3 trials; 35.0 dB wished, not reached" in flat
    assert "16 bits: +0.2 dB against 8 bits, not worth twice the size" in flat


def comparison(layers):
    return Comparison(
        "net.onnx",
        "net.kmodel",
        4,
        tuple(layers),
        (OutputComparison("out", (10,), False, 28.0, 0.999, 0.125, 3),),
        ("A note.",),
    )


def test_comparison_names_the_worst():
    layers = [LayerComparison(i, f"{LONG}{i}", (4, 8, 8), 40.0 - i, 0.99) for i in range(6)]
    text = printed(lambda p: compare.show(comparison(layers), p))
    assert fits(text)
    worst = next(line for line in text.splitlines() if line.startswith("Worst layers"))
    assert "35.0 dB" in worst
    assert text.count("  worst") == 3
    assert "3 of 4" in text
    assert "0.125" in text


def test_comparison_begins_with_the_preprocessing_and_the_warning():
    doubtful = replace(comparison([]), mean=(1.0, 2.5, 3.0), std=(58.0,) * 3, warnings=("Other preprocessing.",))
    text = printed(lambda p: compare.show(doubtful, p))
    lines = text.splitlines()
    assert lines[1] == "input: (pixel - [1, 2.5, 3]) / 58, pixels 0..255"
    assert lines[3] == "warning: Other preprocessing."
    assert "warning" not in printed(lambda p: compare.show(comparison([]), p))


def test_exact_layers_are_called_exact():
    text = printed(lambda p: compare.show(comparison([LayerComparison(0, "a", (1, 4, 4), math.inf, 1.0)]), p))
    assert "exact" in text


def predictions(n):
    scores = np.linspace(0, 3, 10).astype(np.float32)
    made = [Prediction(f"{LONG}_{i}.png", (scores,), 0.004) for i in range(n)]
    return made, [[rank(scores, [f"class {k}" for k in range(10)], 3)] for _ in made]


@pytest.mark.parametrize("n", [1, 6])
def test_classes(n):
    made, readings = predictions(n)
    text = printed(lambda p: run.show(made, readings, None, None, (28, 28), p))
    assert fits(text)
    assert text.count("class 9") == n
    assert ("softmax" in text) == (n == 1)


@pytest.mark.parametrize("scale", [1.0, 0.0])
def test_narrow_terminals_keep_the_labels(scale):
    values = np.full(10, 0.1, np.float32) if scale == 0 else np.linspace(0, 3, 10).astype(np.float32)
    labels = [f"bird of {k}" for k in range(10)]
    made = [Prediction("a.png", (values,), 0.004)]
    text = printed(lambda p: run.show(made, [[rank(values, labels, 3)]], None, None, (28, 28), p), 40)
    assert fits(text, 40)
    assert text.count("bird of ") == 3
    long = [f"great spotted {k} woodpecker of the woods" for k in range(10)]
    text = printed(lambda p: run.show(made, [[rank(values, long, 3)]], None, None, (28, 28), p), 40)
    assert fits(text, 40)
    assert text.count("great") == 3


def test_boxes_in_pixels_and_a_warning_beyond_ten():
    made = [Prediction("street.jpg", (np.zeros((30, 4, 4), np.float32),), 0.004)]
    box = Box(1, 0.75, 0.25, 0.5, 0.5, 1.0)
    text = printed(lambda p: run.show(made, [[None]], [[box]], ["cat", "dog"], (320, 240), p))
    assert text.splitlines()[-1].split() == ["dog", "75.0", "%", "█████████", "80", "120", "160", "240"]
    assert "room for 10" in printed(lambda p: run.show(made, [[None]], [[box] * 11], None, (320, 240), p))
    assert "no box" in printed(lambda p: run.show(made, [[None]], [[]], None, (320, 240), p))


def test_arrays_show_their_range():
    made = [Prediction("a.npy", (np.array([[1.0, -2.0], [3.0, 4.0]], np.float32),), 0.001)]
    text = printed(lambda p: run.show(made, [[None]], None, None, None, p))
    assert "float32 2x2  min -2  max 4  mean 1.5" in text
