from hypothesis import given
from hypothesis import strategies as st

from openkpu.report.table import Column, lay_out
from openkpu.report.words import cells


def text(line):
    return "".join(c if isinstance(c, str) else c[0] for c in line)


COLUMNS = [
    Column("#", right=True),
    Column("name", flexible=True, least=8),
    Column("shape", optional=1),
    Column("cost", right=True, optional=2),
]
rows = st.lists(
    st.tuples(
        st.integers(0, 999).map(str),
        st.text(max_size=60),
        st.text(alphabet="0x9", max_size=12),
        st.integers(0, 10**6).map(str),
    ).map(list),
    min_size=1,
    max_size=8,
)


@given(rows, st.integers(16, 120))
def test_no_line_is_wider_than_the_table(rows, width):
    assert max(cells(text(line).rstrip()) for line in lay_out(COLUMNS, rows, width)) <= width


@given(rows)
def test_columns_line_up(rows):
    lines = [text(line) for line in lay_out(COLUMNS, rows, 120)]
    ends = {cells(line.rstrip()) for line in lines}
    assert len(ends) == 1  # the last column is right-aligned and never empty


def test_optional_columns_go_in_order():
    row = [["1", "a" * 20, "1x2x3x4x5x6", "123456"]]
    heads = {width: text(next(iter(lay_out(COLUMNS, row, width)))).split() for width in (60, 30, 20)}
    assert heads == {60: ["#", "name", "shape", "cost"], 30: ["#", "name", "shape"], 20: ["#", "name"]}


def test_flexible_columns_shrink_before_others_go():
    row = [["1", "conv/very/long/name/of/a/layer/here", "1x2", "12"]]
    header, body = (text(line) for line in lay_out(COLUMNS, row, 30))
    assert header.split() == ["#", "name", "shape", "cost"]
    assert "…" in body
    assert body.split()[1].startswith("conv")


def test_styles_survive():
    header, body = lay_out([Column("a"), Column("b")], [[("x", "red"), "y"]], 40)
    assert body[0][1] == "red"
    assert header[0][1] == "bold"
