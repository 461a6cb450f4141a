"""The search for a wished SNR: what it keeps, when it stops, what it tells."""

import numpy as np
import pytest
from graph_builders import Builder

from openkpu.compiler import compile
from openkpu.errors import InputError
from openkpu.float.export import to_onnx
from openkpu.quantize import ranges, search
from openkpu.quantize.result import CLIPPING_HANDICAP_DB, handicap


def network() -> bytes:
    b = Builder(1, 3, 12, 12)
    y = b.conv(b.conv(b.x, 8, 3), 5, 3)
    return to_onnx(b.graph(y)).SerializeToString()


PICTURES = list(np.random.default_rng(1).integers(0, 256, (24, 3, 12, 12), np.uint8))


def run(target: float):
    return compile(network(), calibration=PICTURES, mean=127.5, std=64.0, target_snr=target)


def test_it_stops_at_the_wished_figure():
    found = run(5.0).report.searched
    assert found is not None
    assert found.reached
    assert len(found.trials) == 1
    assert found.after_db == found.before_db >= 5


def test_it_tries_everything_and_keeps_only_what_helps():
    compiled = run(100.0)
    found = compiled.report.searched
    assert found is not None
    assert not found.reached
    assert len(found.trials) > 20
    best = found.trials[0]
    for trial in found.trials[1:]:
        clips = not trial.way.startswith("minmax") and best.way.startswith("minmax")
        least = handicap(CLIPPING_HANDICAP_DB, best.snr_db) if clips else search.LEAST_GAIN_DB
        if trial.kept:
            assert trial.snr_db >= best.snr_db + least
            best = trial
    assert found.after_db == best.snr_db == compiled.report.calibration_snr_db
    assert compiled.report.way == best.way
    assert any("plain rounding" in t.way for t in found.trials)


def test_two_searches_give_the_same_bytes():
    assert run(100.0).model.to_bytes() == run(100.0).model.to_bytes()


@pytest.mark.parametrize(("target", "pictures"), [(0, 32), (101, 32), (float("nan"), 32), (30, 15), (30, 0)])
def test_what_cannot_be_searched_for_is_refused(target, pictures):
    with pytest.raises(InputError) as caught:
        search.check(target, pictures)
    assert caught.value.code == "E416"
    search.check(30, 16)


def test_auto_clips_only_where_min_max_is_poor():
    """Range methods that clip are tried only under ``FAIR_DB``."""
    report = compile(network(), calibration=PICTURES, mean=127.5, std=64.0)
    tried = report.quantized.tried
    first = max(db for way, db in tried.items() if way.method == "minmax")
    assert {way.method for way in tried} == ({"minmax"} if first >= ranges.FAIR_DB else {"minmax", "mse"})
    named = compile(network(), calibration=PICTURES, mean=127.5, std=64.0, range_method="mse")
    assert {way.method for way in named.quantized.tried} == {"mse"}
