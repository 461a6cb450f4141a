"""The stream of events survives anything but its end."""

from __future__ import annotations

import io

from hypothesis import given
from hypothesis import strategies as st

from openkpu.board.events import Event, Sender, receive

EVENTS = st.lists(
    st.tuples(st.text(max_size=9), st.dictionaries(st.text(max_size=3), st.integers()), st.binary(max_size=40))
)


@given(EVENTS, st.integers(0, 200))
def test_what_is_sent_is_received(events: list[tuple[str, dict[str, int], bytes]], cut: int) -> None:
    stream = io.BytesIO()
    sender = Sender(stream)
    sent = []
    for kind, fields, data in events:
        fields.pop("kind", None)
        sender.send(kind, data, **fields)
        sent.append(Event(kind, fields, data))
    whole = stream.getvalue()
    assert list(receive(io.BytesIO(whole))) == sent
    partial = list(receive(io.BytesIO(whole[:-cut] if cut else whole)))
    assert partial == sent[: len(partial)]


def test_nonsense_ends_the_stream() -> None:
    assert list(receive(io.BytesIO(b"\xff" * 50))) == []
