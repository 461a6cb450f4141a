"""The page itself, in a headless Chromium, while a script runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import board_bench as bb
import headless_browser as hb
import pytest
import ui_bench as ub

SCRIPT = """
import sensor, lcd, time
import KPU as kpu
from Maix import GPIO
from fpioa_manager import fm
fm.register(16, fm.fpioa.GPIOHS0)
key = GPIO(GPIO.GPIOHS0, GPIO.IN, GPIO.PULL_UP)
lcd.init()
lcd.clear(lcd.RED)
sensor.reset(); sensor.set_pixformat(sensor.RGB565); sensor.set_framesize(sensor.B64X64); sensor.set_windowing((16, 16))
sensor.set_vflip(1)
task = kpu.load(0x300000)
print("ready <b>bold</b>")
down = False
while True:
    img = sensor.snapshot()
    kpu.forward(task, img)
    lcd.display(img, oft=(8, 4))
    if not key.value() and not down:
        down = True
        name = input("name? ")
        print("hello", name)
        raise SystemExit(3)
"""
TEXT = "document.getElementById('console').innerText"


def shown(name: str) -> str:
    return f"document.getElementById('{name}').textContent"


@pytest.fixture(scope="module")
def browser() -> Iterator[hb.Browser]:
    path = hb.find()
    if path is None:
        pytest.skip("no Chromium on this computer (apt-get install chromium)")
    with hb.Browser(path) as made:
        yield made


@pytest.fixture
def page(browser: hb.Browser, tmp_path: Path) -> Iterator[tuple[hb.Browser, Any]]:
    (tmp_path / "main.py").write_text(SCRIPT)
    (tmp_path / "model.kmodel").write_bytes(bb.image_model())
    with ub.served(tmp_path / "main.py", flash={0x300000: tmp_path / "model.kmodel"}) as (session, client):
        browser.console.clear()
        browser.open(client.url)
        browser.until(f"{TEXT}.includes('ready')")
        browser.until("+document.getElementById('lcd').dataset.shown > 3")
        yield browser, session


def pixel(browser: hb.Browser, canvas: str, x: int, y: int) -> list[int]:
    code = f"document.getElementById('{canvas}').getContext('2d').getImageData({x}, {y}, 1, 1).data"
    return list(browser.value(f"Array.from({code})"))


def test_everything_is_shown(page: Any) -> None:
    browser, _ = page
    assert browser.value(shown("script")) == "main.py"
    assert pixel(browser, "lcd", 1, 1) == [255, 0, 0, 255], "what lcd.clear left"
    browser.until("+document.getElementById('camera').dataset.shown > 3")
    assert pixel(browser, "lcd", 12, 8) == pixel(browser, "camera", 4, 4) != [255, 0, 0, 255]
    assert "ready <b>bold</b>" in browser.value(TEXT), "text stays text"
    notes = browser.value("document.querySelector('#console .note').textContent")
    assert "set_hmirror or set_vflip" in notes
    bill = browser.value(shown("bill"))
    assert "firmware full3,128,320 B" in bill
    assert "free" in bill
    for name in ("main-text", "gc-text", "ai-text"):
        browser.until(f"/[1-9].* of [1-9]/.test({shown(name)})")
    for name in ("fps-chip", "fps-here"):
        browser.until(f"parseFloat({shown(name)}) > 0")
    browser.until(f"/^[0-9.]+ ms$/.test({shown('forward')})")
    assert browser.value("document.querySelectorAll('.model-row rect.kpu').length") == 1
    assert browser.value("document.querySelector('.model-row b').textContent") == "flash 0x300000"
    assert browser.console == []


def test_turning_and_narrow_screens(page: Any) -> None:
    browser, _ = page
    browser.value("document.getElementById('rotate').click()")
    size = "[document.getElementById('lcd').width, document.getElementById('lcd').height]"
    assert browser.value(size) == [240, 320]
    assert pixel(browser, "lcd", 238, 1) == [255, 0, 0, 255]
    saved = (
        "new Promise(done => { HTMLAnchorElement.prototype.click = function () { done([this.download, this.href]) };"
    )
    name, url = browser.value(f"{saved} document.getElementById('save').click() }})")
    assert (name, url.partition(":")[0]) == ("main.png", "blob")
    for width, dark in ((420, False), (320, True), (1400, True)):
        browser.look(width=width, dark=dark)
        assert browser.value("document.documentElement.scrollWidth") <= width
    browser.look()
    assert browser.console == []


def test_a_key_a_line_and_the_end(page: Any) -> None:
    browser, session = page
    browser.until("document.querySelector('.key[data-pin=\"16\"]:not(.unread)') !== null")
    browser.value("document.querySelector('.key').focus()")
    browser.call("Input.dispatchKeyEvent", type="keyDown", key=" ", code="Space")
    browser.until("document.getElementById('ask').hidden === false")
    browser.call("Input.dispatchKeyEvent", type="keyUp", key=" ", code="Space")
    browser.value("document.getElementById('line').value = 'Ada'; document.getElementById('ask').requestSubmit()")
    browser.until("document.getElementById('result').hidden === false")
    assert "hello Ada" in browser.value(TEXT)
    assert "sys.exit(). Exit code 3" in browser.value(shown("result"))
    browser.value("document.getElementById('restart').click()")
    browser.until(f"{TEXT}.split('ready').length === 3")
    assert browser.value("document.getElementById('result').hidden")
    session.close()
    browser.until(f"document.getElementById('lost').hidden === false && {shown('lost')}.includes('has ended')")
    assert browser.console == []


def test_the_webcam(page: Any) -> None:
    browser, session = page
    before = pixel(browser, "camera", 4, 4)
    browser.value("document.getElementById('webcam').click()")
    browser.until("document.getElementById('webcam').getAttribute('aria-pressed') === 'true'")
    hb.wait_until(lambda: session._picture is not None and session._live, "a picture")
    data, width, height = session._picture
    assert (width, height, len(data)) == (64, 64, 64 * 64 * 3)
    hb.wait_until(lambda: pixel(browser, "camera", 4, 4) != before, "it is shown")
    browser.value("document.getElementById('webcam').click()")
    hb.wait_until(lambda: pixel(browser, "camera", 4, 4) == before, "the test bars again")
    assert browser.value("document.getElementById('webcam-error').hidden")
    assert browser.console == []


def test_pause_and_speed(page: Any) -> None:
    browser, _ = page
    browser.value("document.getElementById('pause').click()")
    browser.until("document.getElementById('state').dataset.how === 'paused'")
    browser.value("document.getElementById('pause').click()")
    browser.until("document.getElementById('state').dataset.how === 'running'")
    browser.value("document.getElementById('pace').click()")
    browser.until(f"{shown('fps-ratio')}.includes('× the chip')")
    assert browser.console == []
