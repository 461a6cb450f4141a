"""The self-learning classifier: learning, results, files, and the firmware's errors."""

from __future__ import annotations

import struct
from pathlib import Path

import board_bench as bb
import numpy as np
import pytest
from board_bench import Bench

SETUP = """
    m = kpu.load('f.kmodel')
    def shot(value, noise=0):
        img = image.Image(size=(8, 8))
        img.draw_rectangle(0, 0, 8, 8, color=value, fill=True)
        img.draw_line(0, 0, noise, noise, color=(9, 9, 9))
        img.pix_to_ai()
        return img
    red, green, blue = (200, 30, 20), (20, 190, 30), (25, 20, 180)
"""


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path, sd={"f.kmodel": bb.float_model(12)})
    made.run(SETUP)
    return made


def test_it_learns_and_remembers(bench: Bench) -> None:
    bench.run("c = kpu.classifier(m, 3, 4)")
    assert bench.eval("[c.add_class_img(shot(x)) for x in (red, green)]") == [0, 1]
    assert bench.eval("c.add_class_img(shot(red), 2), c.add_class_img(shot(blue), 2)") == (2, 2)
    assert bench.eval("[c.add_sample_img(shot(x, 3)) for x in (red, green, blue, green)]") == [0, 1, 2, 3]
    assert bench.eval("c.train()") is None
    assert bench.eval("[c.predict(shot(x, 2))[0] for x in (blue, red, green)]") == [2, 0, 1]
    index, distance = bench.eval("c.predict(shot(red, 3))")
    assert index == 0
    assert distance < bench.eval("c.predict(shot((120, 90, 90)))")[1]
    bench.run("c.save('c.bin'); d, classes, samples = kpu.classifier.load(m, 'c.bin')")
    assert bench.eval("classes, samples") == (3, 0)
    assert bench.eval("d.predict(shot(red, 3))") == (index, distance)
    data = (bench.sd / "c.bin").read_bytes()
    assert struct.unpack_from("<HHIif", data) == (3, 0, 768, 0, 0.0)
    assert len(data) == 4 + 3 * (16 + 4 * 768)


def test_training_is_k_means(bench: Bench) -> None:
    bench.run("c = kpu.classifier(m, 2, 3, fea_len=512); c.add_class_img(shot(red)); c.add_class_img(shot(blue))")
    bench.run("for n in (1, 2, 4): c.add_sample_img(shot(red, n))")
    samples = [s.copy() for s in bench.scope["c"]._samples]
    second = bench.scope["c"]._classes[1].copy()
    bench.run("c.train()")
    np.testing.assert_allclose(bench.scope["c"]._classes[0], np.mean(samples, axis=0), rtol=1e-5, atol=1e-5)
    assert (bench.scope["c"]._classes[1] == second).all(), "a class without samples stays"


def test_removing(bench: Bench) -> None:
    bench.run("c = kpu.classifier(m, 3, 4); c.add_class_img(shot(red)); c.add_class_img(shot(blue))")
    bench.run("for n in (1, 2, 4): c.add_sample_img(shot(red, n))")
    assert bench.eval("c.rm_class_img(), c.rm_class_img()") == (2, 1)
    assert bench.eval("c.rm_sample_img(), c.rm_sample_img(), c.rm_sample_img()") == (1, 0, -1)


def test_what_it_refuses(bench: Bench) -> None:
    bench.run("c = kpu.classifier(m, 1, 1)")
    (bench.sd / "bad").write_bytes(b"\1\0\0\0" + struct.pack("<IifI", 9, 0, 0, 0))
    (bench.sd / "cut").write_bytes(b"\1")
    for source, kind, text in (
        ("kpu.classifier(m, 1)", ValueError, "model, class num, sample num"),
        ("kpu.classifier(3, 1, 1)", ValueError, "model"),
        ("kpu.classifier.load(c, 'c.bin')", ValueError, "must be class"),
        ("kpu.classifier.load(3, 'c.bin')", ValueError, "must be model"),
        ("kpu.classifier.load(m, 3)", ValueError, "path err"),
        ("c.save(3)", ValueError, "path err"),
        ("c.train()", OSError, "[Errno 1] EPERM"),
        ("c.predict(shot(red))", OSError, "[Errno 1] EPERM"),
        ("c.rm_class_img()", OSError, "[Errno 1] EPERM"),
        ("c.rm_sample_img()", OSError, "[Errno 1] EPERM"),
        ("c.add_class_img(image.Image(size=(8, 8)))", OSError, "[Errno 22] EINVAL"),
        ("kpu.classifier.load(m, 'bad')", OSError, "[Errno 22] EINVAL"),
        ("kpu.classifier.load(m, 'cut')", OSError, "[Errno 22] EINVAL"),
        ("kpu.classifier.load(m, 'none')", OSError, "[Errno 2] ENOENT"),
    ):
        with pytest.raises(kind) as caught:
            bench.run(source)
        assert str(caught.value) == text, source
    bench.run("c.add_class_img(shot(red)); c.add_sample_img(shot(red))")
    for source in ("c.add_class_img(shot(red))", "c.add_class_img(shot(red), 5)", "c.add_sample_img(shot(red))"):
        with pytest.raises(OSError) as caught:
            bench.run(source)
        assert caught.value.args == (1,)


def test_a_file_with_more_than_wanted(bench: Bench) -> None:
    bench.run("c = kpu.classifier(m, 2, 1); c.add_class_img(shot(red)); c.add_class_img(shot(blue)); c.save('two')")
    with pytest.raises(OSError) as caught:
        bench.run("kpu.classifier.load(m, 'two', 1)")
    assert caught.value.args == (34,)
    bench.run("d, n, s = kpu.classifier.load(m, 'two', 5, 7)")
    assert bench.eval("n, s") == (5, 7)


def test_features_that_are_too_short(tmp_path: Path) -> None:
    bench = Bench(tmp_path, sd={"f.kmodel": bb.float_model(11)})
    bench.run(SETUP)
    bench.run("c = kpu.classifier(m, 1, 1)")
    with pytest.raises(OSError) as caught:
        bench.run("c.add_class_img(shot(red))")
    assert caught.value.args == (22,)


def test_it_says_goodbye(bench: Bench) -> None:
    bench.run("c = kpu.classifier(m, 1, 1)")
    assert bench.run("c = None") == ""
    assert bench.run("gc.collect()") == "classifier __del__\n"
