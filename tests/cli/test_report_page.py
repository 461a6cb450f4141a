"""``kpu report``: the page, whole and self-contained."""

import json
import re
from html.parser import HTMLParser

import pytest

VOID = {"meta", "br", "img", "link", "hr", "input"}


class Sound(HTMLParser):
    """Checks that tags nest, and collects what the page refers to."""

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.references, self.text = [], set(), [], []

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)
        self.references += [v for k, v in attrs if k in ("src", "href", "xlink:href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture
def page(kpu, net, pictures, tmp_path):
    kmodel, out = tmp_path / "net.kmodel", tmp_path / "page.html"
    assert kpu("compile", net, "--calibration", pictures, "-o", kmodel).exit_code == 0
    (tmp_path / "labels.txt").write_text("<one>\ntwo\nthree\nfour\n")
    args = ("report", net, kmodel, "--data", pictures, "--labels", tmp_path / "labels.txt", "-o", out)
    result = kpu(*args)
    assert result.exit_code == 0, result.stderr
    first = out.read_text()
    assert kpu(*args).exit_code == 0
    assert out.read_text() == first, "the same input gives another page"
    return first


def test_the_page_is_sound_and_needs_nothing_from_outside(page):
    parser = Sound()
    parser.feed(page)
    assert parser.open == []
    assert "script" not in parser.seen
    assert all(r.startswith(("#", "data:image/jpeg;base64,")) for r in parser.references)
    assert not re.search(r"url\(|@import", page)
    anchors = {r[1:] for r in parser.references if r.startswith("#")}
    assert anchors <= set(re.findall(r'id="(\w+)"', page))


def test_the_page_answers_the_questions(page):
    parser = Sound()
    parser.feed(page)
    text = " ".join(" ".join(parser.text).split())
    for part in (
        "Time on the chip",
        "Signal to noise",
        "Same best class",
        "What to do",
        "picture_0.png",
        "MaixPy builds without V4",
        "AI RAM",
        "second",  # a layer of the source model
        "accumulated",
        "the chip's table",
        "<one>",
    ):
        assert part in text
    assert page.count('<figure><svg class="chart"') >= 4  # a histogram and a curve for both layers


def test_json_and_errors(kpu, net, pictures, tmp_path):
    kmodel, out = tmp_path / "net.kmodel", tmp_path / "page.html"
    kpu("compile", net, "--calibration", pictures, "-o", kmodel)
    data = json.loads(kpu("report", net, kmodel, "--data", pictures, "-o", out, "--json").stdout)
    assert data["ms"] > 0
    result = kpu("report", net, net, "--data", pictures, "-o", out)
    assert result.exit_code == 1
    assert "E466" in result.stderr
    result = kpu("report", net, kmodel, "--data", pictures, "-o", tmp_path / "absent" / "page.html")
    assert "E511" in result.stderr
