from dataclasses import replace

import pytest

from openkpu.k210 import MAX_CHANNELS, MAX_HEIGHT, MAX_WIDTH, MIN_SIZE
from openkpu.kpu.constraints import RULES, LayerShape, broken, channels_per_load, load_count

GOOD = LayerShape(16, (32, 32), 24, (32, 32), (3, 3), pads=(1, 1, 1, 1))
DEPTHWISE = LayerShape(16, (32, 32), 16, (32, 32), (3, 3), groups=16, pads=(1, 1, 1, 1))

BAD = {
    "R01": [{"kernel": (5, 5), "pads": (2, 2, 2, 2)}, {"kernel": (1, 7), "pads": (0, 3, 0, 3)}],
    "R02": [{"stride": (3, 3)}, {"stride": (2, 1)}],
    "R03": [{"pads": (0, 0, 0, 0)}, {"pads": (0, 0, 1, 1)}, {"kernel": (1, 1)}],
    "R04": [{"dilation": (2, 2)}],
    "R05": [{"groups": 2}, {"groups": 16}],
    "R06": [{"channels": MAX_CHANNELS + 1, "size": (4, 4), "output": (4, 4)}],
    "R07": [{"size": (8, MAX_WIDTH + 1)}, {"size": (MAX_HEIGHT + 1, 8)}],
    "R08": [{"size": (MIN_SIZE - 1, 8)}, {"output": (4, 3)}],
    "R10": [{"channels": 512, "out_channels": 512, "size": (8, 8), "output": (8, 8)}],
    "R11": [{"size": (240, 320), "output": (240, 320)}],
}


def test_good_layers_break_nothing():
    for shape in (
        GOOD,
        DEPTHWISE,
        replace(GOOD, stride=(2, 2)),
        replace(GOOD, kernel=(1, 1), pads=(0, 0, 0, 0)),
        LayerShape(MAX_CHANNELS, (4, 4), 60, (4, 4)),
        LayerShape(1, (MAX_HEIGHT, MAX_WIDTH), 4, (120, 160)),
    ):
        assert broken(shape) == []


@pytest.mark.parametrize(("code", "change"), [(c, change) for c, changes in BAD.items() for change in changes])
def test_each_rule_says_its_limit(code, change):
    found = {rule.code: why for rule, why in broken(replace(GOOD, **change))}
    assert code in found
    assert any(ch.isdigit() for ch in found[code])


def test_pooling_in_a_depthwise_layer():
    assert [r.code for r, _ in broken(replace(DEPTHWISE, pool="max2"))] == ["R09"]
    assert broken(replace(GOOD, pool="max2")) == []


def test_rules_are_complete_and_documented():
    assert [r.code for r in RULES] == [f"R{i:02d}" for i in range(1, len(RULES) + 1)]
    assert set(BAD) | {"R09"} == {r.code for r in RULES}
    assert all(r.text.endswith(".") and r.remedy for r in RULES)


def test_weight_loads():
    assert channels_per_load(GOOD) == 24
    assert channels_per_load(replace(GOOD, channels=512, out_channels=512)) == 30 * 1024 // (9 * 512) == 6
    assert load_count(replace(GOOD, channels=512, out_channels=384)) == 64
    assert load_count(replace(GOOD, channels=512, out_channels=385)) == 65
    wide = replace(GOOD, channels=1024, out_channels=10, weight_bytes=2)
    assert channels_per_load(wide) == 60 * 1024 // (9 * 1024 * 2) == 3
    assert channels_per_load(DEPTHWISE) == 16
    assert load_count(DEPTHWISE) == 1
