"""time, os, io, gc, sys, machine, pins, random, stubs: what scripts expect of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from board_bench import Bench

from openkpu.board.device import BoardReset
from openkpu.errors import BoardError


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, sd={"a.txt": b"one\r\ntwo\n", "lib.py": b"VALUE = 41\ndef f():\n    return VALUE + 1\n"})


def test_time(bench: Bench) -> None:
    bench.run("import utime; a = time.ticks_ms(); time.sleep_ms(250); time.sleep(0.5); time.sleep_us(250000)")
    assert bench.eval("time.ticks_diff(time.ticks_ms(), a)") == 1000
    assert bench.eval("time.ticks_diff(5, time.ticks_add(5, -10))") == 10
    assert bench.eval("time.ticks_diff(3, (1 << 30) - 2)") == 5
    assert bench.eval("utime is time, time.localtime(0)[:3]") == (True, (2000, 1, 1))
    assert bench.eval("time.localtime(time.mktime((2021, 3, 4, 5, 6, 7, 0, 0)))[:6]") == (2021, 3, 4, 5, 6, 7)
    bench.run("time.set_time((2022, 1, 2, 3, 4, 5))")
    assert bench.eval("time.localtime()[:6]") == (2022, 1, 2, 3, 4, 5)
    with pytest.raises(TypeError, match="length 8 or 9"):
        bench.run("time.mktime((1, 2))")


def test_the_clock_of_frames(bench: Bench) -> None:
    bench.run("c = time.clock()\nfor i in range(10):\n    c.tick(); time.sleep_ms(40); f = c.fps()")
    assert bench.eval("f") == pytest.approx(25, rel=0.02)
    assert bench.eval("c.avg()") > 30
    assert bench.run("print(c)").startswith("t_start:")


def test_waiting_loops_end(bench: Bench) -> None:
    bench.run("end = time.ticks_ms() + 20\nn = 0\nwhile time.ticks_ms() < end: n += 1")
    assert 1500 < bench.eval("n") < 2500


def test_files(bench: Bench) -> None:
    bench.run("import os, uos")
    assert bench.eval("os is uos, os.getcwd(), os.listdir('/'), os.listdir()") == (
        True,
        "/sd",
        ["flash", "sd"],
        ["a.txt", "lib.py"],
    )
    assert bench.eval("open('a.txt').read(), open('/sd/a.txt', 'rb').read(3)") == ("one\r\ntwo\n", b"one")
    bench.run("with open('out.txt', 'w') as f: f.write('x\\n')\nwith open('out.txt', 'a') as f: f.write('y')")
    assert (bench.sd / "out.txt").read_bytes() == b"x\ny"
    bench.run("os.mkdir('d'); os.rename('out.txt', 'd/o.txt'); os.chdir('d')")
    assert bench.eval("os.getcwd(), os.stat('o.txt')[6], os.stat('/sd')[0], list(os.ilistdir())") == (
        "/sd/d",
        3,
        0x4000,
        [("o.txt", 0x8000, 0)],
    )
    bench.run("os.remove('o.txt'); os.chdir('/sd'); os.rmdir('d')")
    assert bench.eval("os.listdir()") == ["a.txt", "lib.py"]
    assert bench.eval("os.uname().sysname, len(os.urandom(5)), os.statvfs('/flash')[0]") == ("MaixPy", 5, 4096)


@pytest.mark.parametrize(
    ("source", "number", "name"),
    [
        ("open('none')", 2, "ENOENT"),
        ("open('/other/x')", 19, "ENODEV"),
        ("open('../../etc/passwd')", 19, "ENODEV"),
        ("open('/sd/../../etc/passwd')", 19, "ENODEV"),
        ("open('link/x', 'w')", 1, "EPERM"),
        ("open('/sd', 'w')", 21, "EISDIR"),
        ("open('none/x', 'w')", 2, "ENOENT"),
        ("os.remove('none')", 2, "ENOENT"),
        ("os.mkdir('a.txt')", 17, "EEXIST"),
        ("os.chdir('a.txt')", 2, "ENOENT"),
        ("os.stat('none')", 2, "ENOENT"),
        ("os.listdir('none')", 2, "ENOENT"),
    ],
)
def test_errors_of_files_are_numbers(bench: Bench, tmp_path: Path, source: str, number: int, name: str) -> None:
    (bench.sd / "link").symlink_to(tmp_path)
    bench.run("import os, sys, uio")
    with pytest.raises(OSError) as caught:
        bench.run(source)
    assert caught.value.args == (number,)
    shown = bench.run(
        f"try:\n    {source}\nexcept OSError as e:\n    print(e); print(repr(e)); print(e.args[0], e.errno)"
    )
    assert shown == f"[Errno {number}] {name}\nOSError({number},)\n{number} {number}\n"


def test_an_overlay_keeps_the_folder(tmp_path: Path) -> None:
    overlay = tmp_path / "over"
    overlay.mkdir()
    bench = Bench(tmp_path, sd={"a.txt": b"old", "b.txt": b"b"}, sd_overlay=str(overlay))
    bench.run(
        "import os; f = open('a.txt', 'a'); f.write('+new'); f.close(); open('c.txt', 'w').close(); os.remove('b.txt')"
    )
    assert bench.eval("open('a.txt').read(), os.listdir()") == ("old+new", ["a.txt", "c.txt"])
    assert sorted(p.name for p in bench.sd.iterdir()) == ["a.txt", "b.txt"]
    assert (bench.sd / "a.txt").read_bytes() == b"old"
    with pytest.raises(OSError):
        bench.run("open('b.txt')")
    bench.run("os.rename('a.txt', 'z.txt')")
    assert bench.eval("os.listdir(), open('z.txt').read()") == (["c.txt", "z.txt"], "old+new")
    assert bench.device.storage.mounts["sd"].written == {"c.txt", "z.txt"}


def test_imports(bench: Bench) -> None:
    bench.run(
        "import lib; from lib import f, VALUE as v; import ujson, json, ustruct, ubinascii, uhashlib, urandom, math"
    )
    assert bench.eval("lib.f(), f(), v, ujson.loads('[1]'), ustruct.pack('<H', 3)") == (42, 42, 41, [1], b"\3\0")
    assert bench.eval("ustruct.pack('3s', 'abc'), bytearray('ab'), isinstance(bytearray(2), bytearray)") == (
        b"abc",
        bytearray(b"ab"),
        True,
    )
    (bench.sd / "pkg").mkdir()
    (bench.sd / "pkg" / "__init__.py").write_text("from .part import x\n")
    (bench.sd / "pkg" / "part.py").write_text("x = 7\n")
    bench.run("import pkg.part; from pkg import part, x")
    assert bench.eval("pkg.part.x, part.x, x") == (7, 7, 7)
    for name in ("numpy", "subprocess", "nothing", "threading"):
        with pytest.raises(ImportError, match=f"no module named '{name}'"):
            bench.run(f"import {name}")
    assert "import numpy: this computer may have it" in bench.notes
    bench.run("import sys")
    assert bench.eval("sys.platform, sys.implementation.name, sys.path[-1], sys.argv") == (
        "MaixPy",
        "micropython",
        "/flash",
        [],
    )


def test_printing_and_exec(bench: Bench) -> None:
    assert bench.run("print(1/3, 2.0, [0.1, (1.5,)], {'a': 1e10}, 'x', None, True, sep='|')") == (
        "0.3333333|2.0|[0.1, (1.5,)]|{'a': 1e+10}|x|None|True\n"
    )
    assert bench.run("print(float('inf'), -float('inf'), float('nan'), 16777217.0)") == "inf -inf nan 1.677722e+07\n"
    bench.run("def f(text):\n    exec(text)\nf('labels = [1, 2]')")
    assert bench.eval("labels") == [1, 2]
    bench.run("import uio; s = uio.StringIO(); print('to', 'file', file=s)")
    assert bench.eval("s.getvalue()") == "to file\n"


def test_mixed_indentation(bench: Bench) -> None:
    bench.script.run_source(b"if True:\n        a = 1\n\tb = 2\n", "tabs.py", bench.scope)
    assert bench.eval("a, b") == (1, 2)


def test_tracebacks(bench: Bench) -> None:
    source = (
        "import sys\ndef f(x):\n    return lib.g(x)\ntry:\n    import lib2 as lib\n    f(3)\nexcept Exception as e:\n"
    )
    (bench.sd / "lib2.py").write_text("def g(x):\n    raise ValueError('bad', x)\n")
    shown = bench.run(source + "    sys.print_exception(e)")
    assert shown == (
        'Traceback (most recent call last):\n  File "test.py", line 6, in <module>\n  File "test.py", line 3, in f\n'
        "  File \"lib2.py\", line 2, in g\nValueError: ('bad', 3)\n"
    )
    bench.run(source + "    import uio\n    s = uio.StringIO()\n    sys.print_exception(e, s)")
    assert bench.eval("s.getvalue()") == shown


def test_traceback_of_endless_recursion(bench: Bench) -> None:
    bench.run("import sys\ndef f(x):\n    f(x)\ntry:\n    f(1)\nexcept RuntimeError as e:\n    kept = e")
    first, call, inner, folded, last = bench.run("sys.print_exception(kept)").splitlines()
    assert first == "Traceback (most recent call last):"
    assert (call, inner) == ('  File "test.py", line 5, in <module>', '  File "test.py", line 3, in f')
    assert folded.startswith("  the line above ")
    assert folded.endswith(" more times")
    assert last == "RuntimeError: maximum recursion depth exceeded"


def test_gc(bench: Bench) -> None:
    free = bench.eval("gc.mem_free()")
    bench.run("img = image.Image(size=(100, 100))")
    assert free - bench.eval("gc.mem_free()") == 20000
    bench.run("img = None; gc.collect()")
    assert bench.eval("gc.mem_free()") == free
    assert bench.eval("gc.mem_alloc() + gc.mem_free(), gc.threshold(), gc.isenabled()") == (518208, -1, True)
    bench.run("gc.threshold(1000); gc.disable()")
    assert bench.eval("gc.threshold(), gc.isenabled()") == (1000, False)


def test_images_that_do_not_fit(bench: Bench) -> None:
    bench.run("a = image.Image(); a.pix_to_ai(); b = image.Image(size=(224, 100))")
    with pytest.raises(MemoryError, match="Out of normal MicroPython Heap Memory! Please reduce the resolution"):
        bench.run("b = image.Image()")
    assert "image 320x240 rgb565 153,600 B" in bench.notes
    bench.run("a = b = None; b = image.Image(); b.pix_to_ai()")


def test_maix(bench: Bench) -> None:
    bench.device.flash.write(0x200000, b"hello")
    bench.run("import Maix; from Maix import utils")
    assert bench.eval("utils.flash_read(0x200000, 5), utils.gc_heap_size()") == (b"hello", 524288)
    assert bench.eval("utils.heap_free()") == bench.device.system.free
    bench.run("utils.gc_heap_size(262144)")
    assert (bench.eval("utils.gc_heap_size()"), bench.device.gc_heap_bytes) == (262144, 524288), (
        "from the next start on"
    )
    with pytest.raises(OSError):
        bench.run("utils.flash_read(0xFFFFFF, 5)")
    assert bench.eval("Maix.freq.get(), Maix.freq.get_kpu()") == ((400, 400), 400)
    assert bench.run("Maix.freq.set(400)") == "No change\n"
    with pytest.raises(BoardReset):
        bench.run("import machine; machine.reset()")
    assert bench.eval("len(machine.unique_id()), machine.reset_cause()") == (32, 0)


def test_pins_and_keys(tmp_path: Path) -> None:
    bench = Bench(tmp_path, presses=((16, 1.0),))
    assert bench.run("from fpioa_manager import fm; from Maix import GPIO; from board import board_info") == (
        "[Warning] Not loaded from /flash/config.json to board_info.\n"
    )
    bench.run("fm.register(board_info.BOOT_KEY, fm.fpioa.GPIOHS0); key = GPIO(GPIO.GPIOHS0, GPIO.IN, GPIO.PULL_UP)")
    bench.run("hits = []; key.irq(lambda k: hits.append(time.ticks_ms()), GPIO.IRQ_FALLING)")
    assert bench.eval("key.value(), board_info.BOOT_KEY, fm.get_pin_by_function(fm.fpioa.GPIOHS0)") == (1, 16, 16)
    bench.run("time.sleep_ms(1050)")
    assert bench.eval("key.value(), hits") == (0, [1000])
    bench.run("time.sleep_ms(100)")
    assert bench.eval("key.value(), len(hits)") == (1, 1)
    assert bench.run("fm.register(17, fm.fpioa.GPIOHS0)") == "[Warning] function is used by fm.fpioa.GPIOHS0(pin:16)\n"
    with pytest.raises(Exception, match=r"function is used by fm.fpioa.GPIOHS0\(pin:17\)"):
        bench.run("fm.register(18, fm.fpioa.GPIOHS0, force=False)")
    bench.run("led = GPIO(GPIO.GPIO3, GPIO.OUT, value=1); fm.register(8, fm.fpioa.GPIO3); led.value(0)")
    assert bench.of("pin")[-1] == {"pin": 8, "gpio": 35, "level": 0}
    for source, text in (
        ("GPIO(40)", "invalid pin"),
        ("key.mode(9)", "arg error"),
        ("key.irq(None, GPIO.IRQ_BOTH, 1)", "This platform does not support interrupt wakeup"),
        ("fm.fpioa.set_function(99, 3)", "Don't have this Pin"),
        ("fm.fpioa.set_function(9, 999)", "This function is invalid"),
    ):
        with pytest.raises(ValueError, match=text):
            bench.run(source)
    assert bench.eval("fm.fpioa.CMOS_D7, fm.fpioa.UART1_TX, fm.fpioa.CLK_I2C2, fm.fpioa.TIMER2_TOGGLE4") == (
        145,
        65,
        203,
        201,
    )


def test_board_info_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "flash").mkdir()
    (tmp_path / "flash" / "config.json").write_text('{"board_info": {"BOOT_KEY": 16, "LED": 13}}')
    bench = Bench(tmp_path)
    assert bench.run("from board import board_info; print(board_info.LED)") == "13\n"


def test_timers_and_ports(bench: Bench) -> None:
    bench.run("from machine import Timer, PWM, UART, I2C, SPI, WDT; n = []")
    bench.run(
        "t = Timer(Timer.TIMER0, Timer.CHANNEL0, mode=Timer.MODE_PERIODIC, period=100, callback=lambda t: n.append(1))"
    )
    bench.run("time.sleep_ms(1050); t.stop(); time.sleep_ms(500)")
    assert bench.eval("len(n)") == 10
    bench.run("Timer(0, 1, period=30, callback=lambda t: n.append(2)); time.sleep_ms(500)")
    assert bench.eval("n.count(2), t.callback_arg(7), t.callback_arg()") == (1, 7, 7)
    bench.run(
        "p = PWM(Timer(0, 2, mode=Timer.MODE_PWM), freq=50, duty=5, pin=24); p.duty(7.5); u = UART(UART.UART1, 9600)"
    )
    assert bench.of("pwm")[-1] == {"pin": 24, "freq": 50.0, "duty": 7.5}
    assert bench.eval("u.write('hi'), u.read(), u.any()") == (2, None, 0)
    assert ("uart", {"number": 0}, b"hi") in bench.events
    assert bench.eval("I2C(I2C.I2C0, freq=100000).scan(), SPI(SPI.SPI0).read(3)") == ([], b"\0\0\0")
    for source, kind, text in (
        ("Timer(7, 0)", ValueError, "Invalid timer"),
        ("PWM(t, freq=0, duty=5, pin=3)", ValueError, "Invalid freq"),
        ("PWM(t, freq=50, duty=500, pin=3)", ValueError, "Invalid duty"),
        ("UART(9)", ValueError, "does not exist"),
        ("I2C(0).readfrom(1, 2)", OSError, "110"),
        ("WDT(id=4)", ValueError, "does not exist"),
    ):
        with pytest.raises(kind, match=text):
            bench.run(source)


def test_stubs_say_what_they_are(bench: Bench) -> None:
    bench.run("import network, usocket")
    assert "the module network is a stub: the virtual board has no networks" in bench.notes
    with pytest.raises(BoardError) as caught:
        bench.run("network.WLAN(network.STA_IF)")
    assert caught.value.code == "E630"
    assert bench.run("try:\n    usocket.socket()\nexcept Exception as e:\n    print('caught')") == "caught\n"
    with pytest.raises(BoardError, match=r"Maix\.Audio"):
        bench.run("import Maix; Maix.Audio()")


def test_random_numbers_follow_the_seed(tmp_path: Path) -> None:
    draws = [
        Bench(tmp_path, seed=s).eval("(__import__('random').randint(0, 10**9), time.ticks_ms())")[0] for s in (1, 1, 2)
    ]
    assert draws[0] == draws[1] != draws[2]


def test_threads(bench: Bench) -> None:
    bench.run("import _thread; lock = _thread.allocate_lock(); done = []\ndef work(x):\n    with lock: done.append(x)")
    bench.run("_thread.start_new_thread(work, (3,))\nwhile not done: pass")
    assert bench.eval("done") == [3]
    bench.run("import micropython; K = micropython.const(5)\n@micropython.native\ndef g(): return K")
    assert bench.eval("g()") == 5
