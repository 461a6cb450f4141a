"""The board as a whole: scripts in their own process, from Python and from the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import board_bench as bb
import numpy as np
import pytest
from PIL import Image

import openkpu
from openkpu.board.events import Event
from openkpu.errors import BoardError, SetupError

DETECT = """
import sensor, lcd, time
import KPU as kpu
lcd.init()
sensor.reset(); sensor.set_pixformat(sensor.RGB565); sensor.set_framesize(sensor.B64X64); sensor.set_windowing((16, 16))
task = kpu.load(0x300000)
try:
    while True:
        img = sensor.snapshot()
        fmap = kpu.forward(task, img)
        print(max(fmap[:]))
        lcd.display(img)
finally:
    print("end", kpu.deinit(task))
"""


@pytest.fixture
def script(tmp_path: Path) -> Any:
    def write(text: str, name: str = "main.py") -> Path:
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.kmodel"
    path.write_bytes(bb.image_model())
    return path


def test_a_script_with_everything(tmp_path: Path, script: Any, model: Path) -> None:
    seen: list[Event] = []
    board = openkpu.Board(flash={0x300000: model}, frames=3, display=str(tmp_path / "d.png"), firmware="minimum")
    result = board.run(script(DETECT), on_event=seen.append, keep_frames=True)
    assert (result.ok, result.how, result.snapshots, result.displays, result.runs) == (True, "frames", 3, 3, 3)
    assert result.text.endswith("end True\n")
    assert len(result.frames) == 4, "after lcd.init, and three images"
    assert (np.asarray(Image.open(tmp_path / "d.png")) == result.frames[-1]).all()
    assert 10 < result.fps < 30
    assert [e.kind for e in seen].count("run") == 3
    (loaded,) = (e.fields for e in seen if e.kind == "model")
    assert (loaded["name"], len(loaded["steps"]), len(loaded["us"])) == ("flash 0x300000", 1, 1)
    again = board.run(script(DETECT), keep_frames=True)
    assert (again.text, again.chip_us) == (result.text, result.chip_us), "every run is the same"


def test_crashes_and_exits(script: Any) -> None:
    board = openkpu.Board()
    result = board.run(script("def f():\n    return 1 // 0\nf()\n"))
    assert (result.code, result.how) == (1, "exception")
    assert result.traceback == (
        'Traceback (most recent call last):\n  File "main.py", line 3, in <module>\n  File "main.py", line 2, in f\n'
        "ZeroDivisionError: integer division or modulo by zero\n"
    )
    assert result.text == result.traceback
    assert board.run(script("import sys\nsys.exit(3)\n")).code == 3
    assert board.run(script("x = (\n")).traceback.startswith("Traceback (most recent call last):\n")
    ended = board.run(script("import os\nprint(os.getcwd(), __name__)\n"))
    assert (ended.code, ended.how, ended.text) == (0, "end", "/sd __main__\n")


def test_the_board_stops(script: Any, model: Path) -> None:
    text = "import KPU as kpu, image\nt = kpu.load(0x300000)\ni = image.Image(size=(16, 16))\ni.pix_to_ai()\n"
    text += "try:\n    kpu.run_yolo2(t, i)\nexcept BaseException:\n    print('caught')\nfinally:\n    print('after')\n"
    result = openkpu.Board(flash={0x300000: model}).run(script(text))
    assert (result.code, result.how, result.text) == (1, "halt", "")
    assert isinstance(result.error, BoardError)
    assert result.error.code == "E624"


def test_a_reset_starts_again_with_another_heap(script: Any) -> None:
    text = "import Maix, machine\nprint(Maix.utils.gc_heap_size(), machine.reset_cause())\n"
    text += "if Maix.utils.gc_heap_size() != 262144:\n    Maix.utils.gc_heap_size(262144)\n    machine.reset()\n"
    assert openkpu.Board().run(script(text)).text == "524288 0\n262144 4\n"
    with pytest.raises(BoardError) as caught:
        openkpu.Board().run(script("import machine\nmachine.reset()\n"))
    assert caught.value.code == "E604"


def test_a_heap_that_is_too_large(script: Any) -> None:
    result = openkpu.Board(gc_heap=7 << 20).run(script("import gc\nprint(gc.mem_free() + gc.mem_alloc())"))
    assert result.text == "GC heap size 7340032 is too large, reset GC heap size\n129536\n"


def test_what_a_script_writes(tmp_path: Path, script: Any) -> None:
    card = tmp_path / "card"
    card.mkdir()
    path = script("open('out.txt', 'w').write('x')\n")
    kept = openkpu.Board(sd=card).run(path)
    assert (kept.written, (card / "out.txt").read_text(), kept.notes) == (["/sd/out.txt"], "x", [])
    dropped = openkpu.Board().run(path)
    assert "give the board an SD folder" in dropped.notes[-1]
    assert not (tmp_path / "out.txt").exists()


def test_a_script_that_reads_lines(script: Any) -> None:
    import io

    text = "name = input('name? ')\nprint('hello', name)\nimport sys\nprint(sys.stdin.readline())\n"
    result = openkpu.Board().run(script(text), stdin=io.StringIO("Ada\nbye\n"))
    assert result.text == "name? hello Ada\nbye\n\n"


def test_a_stubborn_script_ends(script: Any) -> None:
    text = "import sensor\nsensor.reset(); sensor.set_pixformat(2); sensor.set_framesize(10)\nwhile True:\n"
    text += "    try:\n        sensor.snapshot()\n    except:\n        pass\n"
    result = openkpu.Board(frames=2).run(script(text))
    assert (result.code, result.how, result.snapshots) == (0, "frames", 2)


def test_commands_from_a_watcher(script: Any) -> None:
    text = (
        "from Maix import GPIO\nfrom fpioa_manager import fm\nimport time, sensor\nfm.register(16, fm.fpioa.GPIOHS0)\n"
    )
    text += "key = GPIO(GPIO.GPIOHS0, GPIO.IN)\nprint('ready')\nwhile key.value(): pass\n"
    text += (
        "sensor.reset(); sensor.set_pixformat(2); sensor.set_framesize(sensor.B64X64)\nprint(sensor.snapshot()[0])\n"
    )
    board = openkpu.Board(camera="live")

    def answer(event: Event) -> None:
        if event.kind == "text" and "ready" in event.fields["text"]:
            board.send("picture", bytes([255, 0, 0]) * 64 * 64, w=64, h=64)
            board.send("pin", pin=16, level=0)

    assert board.run(script(text), on_event=answer).text.endswith("(255, 0, 0)\n")


def test_ctrl_c(script: Any) -> None:
    text = "import time\ntry:\n    print('up')\n    while True:\n        time.sleep_ms(1)\n"
    text += "except KeyboardInterrupt:\n    print('stopped')\n    raise\n"
    board = openkpu.Board()
    started = threading.Event()

    def press(event: Event) -> None:
        if event.kind == "text" and not started.is_set():
            started.set()
            board.interrupt()

    result = board.run(script(text), on_event=press)
    assert (result.code, result.how) == (130, "interrupt")
    assert "stopped\n" in result.text
    assert result.text.endswith("KeyboardInterrupt: \n")


def test_a_process_that_dies(script: Any) -> None:
    board = openkpu.Board()
    result = board.run(
        script("print('x')\nwhile True: pass\n"), on_event=lambda e: board.kill() if e.kind == "text" else None
    )
    assert (result.code, result.how) == (1, "died")
    assert result.error is not None
    assert result.error.code == "E603"


def test_what_cannot_be_set_up(tmp_path: Path, script: Any) -> None:
    path = script("pass")
    for options, code in (
        ({"firmware": "huge"}, "E600"),
        ({"time": "slow"}, "E602"),
        ({"sd": tmp_path / "none"}, "E510"),
    ):
        with pytest.raises((BoardError, SetupError)) as caught:
            openkpu.Board(**options)  # type: ignore[arg-type]
        assert caught.value.code == code
    with pytest.raises(SetupError):
        openkpu.Board().run(tmp_path / "none.py")
    for options, code in (({"camera": tmp_path / "no.png"}, "E610"), ({"flash": tmp_path / "no.kfpkg"}, "E510")):
        result = openkpu.Board(**options).run(path)  # type: ignore[arg-type]
        assert (result.code, result.error and result.error.code) == (1, code)
    with pytest.raises(BoardError):
        openkpu.Board(display="x.bmp").run(path)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_process_outlives_its_watcher(script: Any) -> None:
    path = script("print(1)\nwhile True: pass\n")
    code = "import openkpu, sys\n"
    code += "def on(e):\n    if e.kind == 'text': print(b._process.pid, flush=True)\n"
    code += f"b = openkpu.Board()\nb.run({str(path)!r}, on_event=on)\n"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as watcher:
        assert watcher.stdout is not None
        child = Path("/proc") / watcher.stdout.readline().strip()
        assert child.exists()
        watcher.kill()
    for _ in range(200):
        try:
            if " Z " in (child / "stat").read_text():
                return
        except OSError:
            return
        time.sleep(0.05)
    pytest.fail("the script's process still runs")


# -- the command line ----------------------------------------------------------------------------------------------


def kpu(*args: object, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "openkpu", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def test_the_verb(tmp_path: Path, script: Any, model: Path) -> None:
    path = script(DETECT)
    done = kpu("board", path, "--flash", f"{model}@0x300000", "--frames", "2", "--display", tmp_path / "d.gif")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "end True")
    assert "board: 2 snapshots, 2 displays" in done.stderr
    with Image.open(tmp_path / "d.gif") as gif:
        assert gif.size == (320, 240)
    failed = kpu("board", script("import KPU\nKPU.load('x.kmodel')\n"), "--json")
    data = json.loads(failed.stdout)
    assert (failed.returncode, data["how"], failed.stderr) == (1, "exception", "")
    assert "2005" in data["traceback"]
    assert "ENOENT" in data["notes"][0]


def test_the_verb_shows_a_halt(script: Any, model: Path) -> None:
    text = "import KPU as kpu\nt = kpu.load(0x300000)\nkpu.deinit(t)\nkpu.get_output(t, 0)\n"
    done = kpu("board", script(text), "--flash", f"{model}@0x300000")
    assert done.returncode == 1
    assert "error E629" in done.stderr
    assert done.stdout == ""
    assert kpu("board").returncode == 2
    assert kpu("board", script("pass"), "--press", "x").returncode == 2


def test_the_verb_copies_stubs(tmp_path: Path) -> None:
    done = kpu("board", "--stubs", tmp_path / "typings")
    assert done.returncode == 0
    assert {"KPU.pyi", "sensor.pyi", "lcd.pyi"} <= {p.name for p in (tmp_path / "typings").iterdir()}


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_ctrl_c_at_the_command_line(script: Any) -> None:
    path = script("import time\nprint('up')\nwhile True: time.sleep_ms(1)\n")
    with subprocess.Popen(
        [sys.executable, "-m", "openkpu", "board", str(path)], stdout=subprocess.PIPE, text=True, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        os.kill(process.pid, signal.SIGINT)
        out, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert out.endswith("KeyboardInterrupt: \n")
