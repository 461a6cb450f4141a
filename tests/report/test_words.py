import math

from hypothesis import given
from hypothesis import strategies as st

from openkpu.report import words


def test_sizes_and_counts():
    assert [words.size(n) for n in (0, 1023, 1024, 1536, 6 * 1024 * 1024)] == [
        "0 B",
        "1023 B",
        "1.0 KiB",
        "1.5 KiB",
        "6.00 MiB",
    ]
    assert [words.count(n) for n in (950, 12_340, 4_560_000, 1.234e9)] == ["950", "12.3 k", "4.56 M", "1.23 G"]
    assert words.milliseconds(1234) == "1.234 ms"
    assert words.milliseconds(123_456) == "123 ms"
    assert words.percent(1, 4) == "25 %"
    assert words.percent(1, 1000) == "<1 %"
    assert words.percent(0, 1000) == "0 %"
    assert words.percent(1, 0) == "-"


def test_decibels_of_special_values():
    assert words.decibels(math.inf) == "exact"
    assert words.decibels(-math.inf) == "-inf"
    assert words.decibels(math.nan) == "-"
    assert words.decibels(31.25) == "31.2 dB"


def test_middle_keeps_both_ends():
    assert words.middle("features/block_3/depthwise/Conv", 16) == "feature…ise/Conv"
    assert words.middle("short", 16) == "short"


def test_names_are_shortened_alike_and_stay_apart():
    names = [f"/features/features.{i}/body/body.{k}/body.{k}.1/BatchNormalization" for i in (1, 2) for k in (0, 1)]
    assert words.shorten_names(names, 80) == names
    assert words.shorten_names(names, 40)[0] == "features.1/body.0.1/BatchNormalization"
    assert words.shorten_names(names, 30)[0] == "features.1/body.0.1"
    tight = words.shorten_names(names, 12)
    assert all(len(n) == 12 for n in tight)
    assert words.shorten_names(["/", "a", ""], 1) == ["/", "a", ""]


@given(st.text(), st.integers(0, 40))
def test_middle_fits(text, width):
    result = words.middle(text, width)
    assert words.cells(result) <= max(width, 1)
    if words.cells(text) <= width:
        assert result == text


@given(st.text(alphabet="ab层类é", max_size=10), st.integers(20, 30), st.booleans())
def test_pad_fills_exactly(text, width, right):
    assert words.cells(words.pad(text, width, right=right)) == width


@given(st.floats(-1, 2), st.integers(1, 40), st.booleans())
def test_bar_has_its_width_and_grows(fraction, width, ascii_only):
    bar = words.bar(fraction, width, ascii_only=ascii_only)
    assert len(bar) == width
    assert len(bar.strip()) <= len(words.bar(fraction + 0.2, width, ascii_only=ascii_only).strip())
    assert not ascii_only or set(bar) <= {"#", " "}


def test_bar_ends():
    assert words.bar(0, 4) == "    "
    assert words.bar(1, 4) == "████"
    assert words.bar(math.nan, 4) == "    "
    assert words.bar(0.125, 1) == "▏"


def test_steps_without_a_name_stay_without_one():
    assert words.shorten_names(["", "/a/a.1/a.1.2/Conv", "/"], 4)[0] == ""
