"""The page's server: who may talk to it, what it sends, and what its commands do to a running script."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import board_bench as bb
import pytest
import ui_bench as ub

import openkpu
from openkpu.board.ui.server import MAX_COMMAND, PageServer
from openkpu.board.ui.session import Session
from openkpu.errors import SetupError

LOOP = """
import sensor, lcd
import KPU as kpu
from Maix import GPIO
from fpioa_manager import fm
fm.register(16, fm.fpioa.GPIOHS0)
fm.register(13, fm.fpioa.GPIO0)
key, led = GPIO(GPIO.GPIOHS0, GPIO.IN, GPIO.PULL_UP), GPIO(GPIO.GPIO0, GPIO.OUT)
lcd.init()
sensor.reset(); sensor.set_pixformat(sensor.RGB565); sensor.set_framesize(sensor.B64X64); sensor.set_windowing((16, 16))
task = kpu.load(0x300000)
print("ready")
seen = set()
try:
    while True:
        img = sensor.snapshot()
        kpu.forward(task, img)
        lcd.display(img)
        for what in ("pixel %s" % (img.get_pixel(8, 8),), "key %d" % key.value()):
            if what not in seen:
                seen.add(what)
                print(what)
        led.value(key.value())
finally:
    print("finally")
"""


@pytest.fixture
def script(tmp_path: Path) -> Any:
    def write(text: str) -> Path:
        (tmp_path / "main.py").write_text(text)
        return tmp_path / "main.py"

    return write


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.kmodel"
    path.write_bytes(bb.image_model())
    return path


@pytest.fixture
def idle(script: Any) -> Any:
    with ub.served(script("print('x')\n"), start=False) as made:
        yield made


# -- who may talk to it --------------------------------------------------------------------------------------------


def test_the_page_and_its_headers(idle: Any) -> None:
    _, client = idle
    status, body, answer = client.ask("GET", "")
    assert (status, b"<canvas" in body) == (200, True)
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert (answer.headers["Referrer-Policy"], answer.headers["Cache-Control"]) == ("no-referrer", "no-store")
    assert not re.search(rb"https?://(?!www\.w3\.org)", body), "nothing comes from elsewhere"
    for name in re.findall(rb'(?:src|href)="([\w.]+)"', body):
        assert client.ask("GET", name.decode())[0] == 200
    _, script, _ = client.ask("GET", "app.js")
    for name in re.findall(rb'from "\./(\w+\.js)"', script):
        assert client.ask("GET", name.decode())[2].headers["Content-Type"].startswith("text/javascript")
    assert client.ask("GET", client.path.rstrip("/"), whole=True)[0] == 308


@pytest.mark.parametrize("path", ["/", "/wrong/", "/wrong/stream", "//", "/%00/", "/%C3%A9/"])
def test_no_token_no_page(idle: Any, path: str) -> None:
    _, client = idle
    status, body, _ = client.ask("GET", path, whole=True)
    assert (status, b"whole address" in body) == (403, True)
    assert client.ask("POST", f"{path}command", b'{"do": "restart"}', whole=True)[0] == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "127.0.0.1"},
        {"Host": "127.0.0.1.evil.example:1"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
def test_other_pages_are_refused(idle: Any, headers: dict[str, str]) -> None:
    session, client = idle
    for method, path, body in (("GET", "", None), ("GET", "stream", None), ("POST", "command", b'{"do": "restart"}')):
        assert client.ask(method, path, body, **headers)[0] == 403
    assert session._runs == 0


def test_the_page_itself_is_not_refused(idle: Any) -> None:
    _, client = idle
    for name in ("127.0.0.1", "localhost"):
        host = f"{name}:{client.port}"
        headers = {"Host": host, "Origin": "http" + f"://{host}", "Sec_Fetch_Site": "same-origin"}
        assert client.ask("POST", "command", b'{"do": "pause", "on": true}', **headers)[0] == 204


def test_bad_requests(idle: Any) -> None:
    _, client = idle
    for body in (
        b"",
        b"{",
        b"[]",
        b"3",
        b'{"do": "fly"}',
        b'{"do": []}',
        b'{"do": "pause"}',
        b'{"do": "pause", "on": 1}',
    ):
        assert client.ask("POST", "command", body)[0] == 400, body
    for pin in (-1, 48, True, "16", None):
        assert client.command(do="key", pin=pin, up=True) == 400
    assert client.ask("POST", "command", b"[" * 60_000)[0] == 400
    assert client.ask("POST", "command", b" " * (MAX_COMMAND + 1))[0] == 413
    for query, size, status in (("w=8&h=8", 191, 400), ("w=8&h=8", 193, 413), ("w=7&h=8", 8, 400), ("w=8", 8, 400)):
        assert client.ask("POST", f"picture?{query}", b"x" * size)[0] == status
    assert client.ask("POST", "picture?w=9999&h=9999", b"")[0] == 400
    assert (
        client.ask("GET", "../session.py")[0]
        == client.ask("GET", "none.js")[0]
        == client.ask("POST", "x", b"")[0]
        == 404
    )
    assert client.ask("PUT", "", b"")[0] == 501
    assert client.command(do="camera", live=True) == 409


def test_a_port_that_is_taken(idle: Any, script: Any) -> None:
    _, client = idle
    for port in (client.port, 70_000):
        with pytest.raises(SetupError) as caught:
            PageServer(Session(openkpu.Board(), script("")), port)
        assert caught.value.code == "E660"


# -- a running script ----------------------------------------------------------------------------------------------


def test_what_a_page_sees(script: Any, model: Path) -> None:
    with ub.served(script(LOOP), flash={0x300000: model}) as (_, client):
        page = ub.Page(client)
        page.until_text("key 1\n")
        page.until(
            lambda p: p.count.get("camera", 0) > 3 and p.count.get("frame", 0) > 3 and "rates" in p.now, "pictures"
        )
        frame, camera = page.now["frame"], page.now["camera"]
        assert len(frame.data) == frame.fields["w"] * frame.fields["h"] * 3 == 320 * 240 * 3
        assert (len(camera.data), camera.fields["frame"]) == (16 * 16 * 3, [64, 64])
        memory = page.now["memory"].fields
        bill = dict(memory["bill"])
        assert bill["firmware full"] == 3_128_320
        assert {"GC heap (script and images)", "display 320x240"} < bill.keys()
        assert sum(size for _, size in memory["bill"]) + memory["system_free"] == memory["system_size"] == 6 << 20
        (loaded,) = page.now["models"].fields["models"]
        assert (loaded["kinds"], loaded["shapes"], len(loaded["us"])) == (["kpu"], [[4, 16, 16]], 1)
        assert 0 < loaded["ai"][0] < 2 << 20
        page.until(lambda p: "runs" in p.now and p.now["runs"].fields["runs"][0]["count"] > 3, "runs")
        page.until(lambda p: (p.now["rates"].fields["chip"] or 0) > 1, "frames a second")
        page.until(lambda p: "pins" in p.now and p.now["pins"].fields["outputs"], "pins")
        assert [p["pin"] for p in page.now["pins"].fields["inputs"]] == [16]
        late = ub.Page(client)
        late.until_text("key 1\n")
        late.until(
            lambda p: {"hello", "state", "frame", "memory", "models", "runs"} <= p.now.keys(), "everything at once"
        )


def test_a_key_and_the_webcam_reach_the_script(script: Any, model: Path) -> None:
    with ub.served(script(LOOP), flash={0x300000: model}) as (_, client):
        page = ub.Page(client)
        page.until_text("key 1\n")
        assert client.command(do="key", pin=16, up=False) == 204
        page.until_text("key 0\n")
        page.until(lambda p: p.now["pins"].fields["outputs"][0]["level"] == 0, "the LED")
        assert client.picture(64, 64, (255, 0, 0)) == client.command(do="camera", live=True) == 204
        page.until_text("pixel (255, 0, 0)\n")
        assert client.picture(32, 48, (0, 0, 255)) == 204
        page.until_text("pixel (0, 0, 255)\n")
        page.until(lambda p: p.now["switches"].fields["live"], "the switch")
        assert client.command(do="restart") == 204
        page.until_state("running", run=2)
        page.until(lambda p: "run 2" in p.text and "(0, 0, 255)" in p.text.split("run 2")[1], "the webcam again")
        assert client.command(do="camera", live=False) == 204
        page.until(lambda p: p.text.split("run 2")[1].count("pixel") > 1, "the test bars")


def test_pause_stop_restart(script: Any, model: Path) -> None:
    with ub.served(script(LOOP), flash={0x300000: model}) as (session, client):
        page = ub.Page(client)
        page.until_text("key 1\n")
        client.command(do="pause", on=True)
        page.until_state("paused")
        time.sleep(0.2)
        frames = page.count["camera"]
        time.sleep(0.3)
        assert page.count["camera"] == frames
        client.command(do="pause", on=False)
        page.until(lambda p: p.count["camera"] > frames + 1, "it goes on")
        client.command(do="pause", on=True)
        client.command(do="stop")
        ended = page.until_state("ended")
        assert (ended["result"]["code"], ended["result"]["how"], session.code) == (130, "interrupt", 130)
        page.until_text("finally\n")
        client.command(do="restart")
        page.until_state("running", run=2)
        page.until(lambda p: p.text.count("ready\n") == 2, "the second run")


def test_a_script_that_ends_or_fails(script: Any, tmp_path: Path) -> None:
    text = "import sys\nname = input('name? ')\nprint('hello', name)\nsys.exit(3 if name else 0)\n"
    with ub.served(script(text)) as (session, client):
        page = ub.Page(client)
        page.until(lambda p: p.now.get("state") and p.now["state"].fields["asking"], "it asks")
        client.command(do="line", text="Ada")
        result = page.until_state("ended")["result"]
        assert (result["code"], result["how"]) == (3, "exit")
        page.until_text("name? Ada\nhello Ada\n")
        (tmp_path / "main.py").unlink()
        client.command(do="restart")
        result = page.until_state("ended", run=2)["result"]
        assert (result["how"], result["error"]["code"], session.code) == ("setup", "E510", 1)
        script("1 / 0\n")
        client.command(do="restart")
        page.until_state("ended", run=3)
        page.until_text("Traceback")
        script("input()\n")
        client.command(do="restart")
        page.until(lambda p: p.now["state"].fields["asking"], "it asks again")
        client.command(do="stop")
        assert page.until_state("ended", run=4)["result"]["how"] == "interrupt"


def test_a_stubborn_script_loses_its_power(script: Any) -> None:
    text = "import time\nprint('up')\nwhile True:\n    try:\n        while True: time.sleep_ms(1)\n"
    text += "    except BaseException: print('no')\n"
    with ub.served(script(text)) as (_, client):
        page = ub.Page(client)
        page.until_text("up")
        client.command(do="stop")
        page.until_text("no")
        client.command(do="stop")
        assert page.until_state("ended")["result"]["how"] == "killed"


def test_the_chip_s_pace(script: Any) -> None:
    text = "import time\nprint('begin')\ntime.sleep(600)\nprint('done')\n"
    with ub.served(script(text)) as (_, client):
        page = ub.Page(client)
        page.until_text("begin")
        time.sleep(0.3)
        assert "done" not in page.text
        client.command(do="pace", on=False)
        page.until_text("done")
        client.command(do="restart")
        page.until(lambda p: p.text.count("done") == 2, "the choice stays")


def test_a_page_that_does_not_read_holds_nobody_back(script: Any) -> None:
    text = "import lcd, image, time\nlcd.init()\nimg = image.Image(size=(320, 240))\n"
    text += "for i in range(200):\n    img.clear()\n    img.set_pixel(i, 0, (255, 255, 255))\n    lcd.display(img)\n"
    text += "    time.sleep_ms(1)\nprint('shown')\n"
    with ub.served(script(text), start=False, paced=False) as (session, client):
        with socket.create_connection(("127.0.0.1", client.port)) as stuck:
            stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            stuck.sendall(f"GET {client.path}stream HTTP/1.1\r\nHost: 127.0.0.1:{client.port}\r\n\r\n".encode())
            page = ub.Page(client)
            page.until(lambda p: "state" in p.now, "the stream")
            session.start()
            page.until_state("ended")
            page.until_text("shown")
            page.until(lambda p: p.now["frame"].fields["n"] == 200, "the last picture")
            slow = stuck.makefile("rb")
            while slow.readline().strip():
                pass
            frames = []
            for event in ub.receive(slow):
                frames += [event] if event.kind == "frame" else []
                if event.kind == "frame" and event.fields["n"] == 200:
                    break
        assert len(frames) < 100, "most were dropped"


# -- the command line ----------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_ctrl_c_ends_everything(script: Any, model: Path) -> None:
    command = [sys.executable, "-m", "openkpu", "board", str(script(LOOP)), "--flash", f"{model}@0x300000"]
    with subprocess.Popen(
        [*command, "--ui", "--no-open"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        found = re.search(r"http\S+", process.stderr.readline())
        assert found is not None
        page = ub.Page(ub.Client(found.group()))
        page.until_text("ready")
        os.kill(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=30)
        page.until(lambda p: "bye" in p.now, "good-bye")
    assert process.returncode == 130, err
    assert "finally\n" in out
    assert "Traceback" not in err
    assert "snapshots" in err


def test_wrong_usage(script: Any, tmp_path: Path) -> None:
    def kpu(*args: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "openkpu", "board", *map(str, args)], capture_output=True, text=True
        )

    assert kpu(script(""), "--ui", "--json").returncode == 2
    assert kpu(script(""), "--ui", "--display", "window").returncode == 2
    done = kpu(tmp_path / "none.py", "--ui", "--no-open")
    assert (done.returncode, "E510" in done.stderr) == (1, True)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = kpu(script(""), "--ui", "--no-open", "--port", taken.getsockname()[1])
    assert (done.returncode, "E660" in done.stderr) == (1, True)
    assert json.dumps(done.stdout) == '""'
