"""Running models: forward, outputs, feature maps, set_layers, netinfo, and the checks before them."""

from __future__ import annotations

from pathlib import Path

import board_bench as bb
import numpy as np
import program_builders as b
import pytest
from board_bench import Bench

import openkpu
from openkpu.board import model_file
from openkpu.errors import BoardError, UnsupportedError
from openkpu.kmodel import v3
from openkpu.kmodel.program import Dequantize, DType, KpuRemovePadding, KpuUpload
from openkpu.maixpy.kpu import codes

MODEL = bb.image_model()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    files = {
        "m.kmodel": MODEL,
        "gray.kmodel": bb.image_model(c=1),
        "f.kmodel": bb.float_model(6),
        "v.kmodel": bb.vector_model(),
    }
    made = Bench(tmp_path, sd=files)
    made.run(
        "m = kpu.load('m.kmodel'); img = image.Image(size=(16, 16)); img.draw_circle(8, 8, 5, color=(90, 200, 40))"
    )
    return made


def test_forward_computes_what_run_computes(bench: Bench) -> None:
    bench.run("img.pix_to_ai(); f = kpu.forward(m, img)")
    wanted = openkpu.load(MODEL).run(bench.scope["img"]._ai)[0]
    assert bench.eval("f[:]") == tuple(wanted.reshape(-1).tolist())
    assert bench.eval("f.w(), f.h(), f.ch(), f.size(), f.index()") == (16, 16, 4, 1024, 0)
    assert bench.run("print(f)").startswith('{"fmap": "data"=0x8')
    assert bench.printed.endswith('"size"=1024, "index": 0, "w": 16, "h": 16, "ch": 4, "typecode": B}\n')
    assert bench.eval("f[5], f[-1], f[2:4]") == (
        *[int(wanted.reshape(-1)[i]) for i in (5, -1)],
        bench.eval("f[:]")[2:4],
    )


def test_feature_maps_are_the_models_memory(bench: Bench) -> None:
    bench.run("img.pix_to_ai(); f = kpu.forward(m, img); before = f[:]; f[0] = 7; f[2:4] = [8, 9]; f[5:7] = 3")
    assert bench.eval("f[0], f[2], f[3], f[5], f[6]") == (7, 8, 9, 3, 3)
    assert bench.eval("kpu.get_output(m, 0)[0]") == 7
    bench.run("kpu.forward(m, img)")
    assert bench.eval("f[:]") == bench.scope["before"]
    for source, kind, text in (
        ("f[::2]", OSError, "only slices with step=1 (aka None) are supported"),
        ("f[0:4:2] = 1", OSError, "only slices with step=1 (aka None) are supported"),
        ("f[0:3] = [1, 2]", OSError, "cannot grow or shrink image"),
        ("f[5000]", IndexError, "kpu_fmap index out of range"),
        ("f['a']", TypeError, "kpu_fmap indices must be integers, not str"),
        ("len(f)", TypeError, "has no len"),
        ("list(f)", TypeError, "not iterable"),
    ):
        with pytest.raises(kind, match=text.replace("(", r"\(").replace(")", r"\)")):
            bench.run(source)


def test_maps_as_images(bench: Bench) -> None:
    bench.run("img.pix_to_ai(); f = kpu.forward(m, img); g = kpu.fmap(f, 2)")
    assert bench.eval("(g.width(), g.height(), g[5])") == (16, 16, bench.eval("f[2 * 256 + 5]"))
    bench.run("f[2 * 256 + 5] = 99")
    assert bench.eval("g[5]") == 99
    with pytest.raises(ValueError) as caught:
        bench.run("kpu.fmap(f, 4)")
    assert str(caught.value) == "[MAIXPY]kpu: ch err,input 0~4\r\n"
    bench.run("n = kpu.load('v.kmodel'); v = kpu.forward(n, [1, 2, 3, 4])")
    with pytest.raises(ValueError) as caught:
        bench.run("kpu.fmap(v, 0)")
    assert str(caught.value) == "[MAIXPY]kpu: can't convet float fmap yet\r\n"
    assert bench.eval("kpu.fmap_free(3.5), kpu.fmap_free(f)") == (None, None)


def test_typecode_crashes(bench: Bench) -> None:
    bench.run("img.pix_to_ai(); f = kpu.forward(m, img)")
    with pytest.raises(BoardError) as caught:
        bench.run("f.typecode()")
    assert caught.value.code == "E628"


@pytest.mark.parametrize(
    ("image", "printed"),
    [
        ("image.Image(size=(16, 16))", "pix_ai is NULL!"),
        ("ai(image.Image(size=(24, 16)))", "img w=24,h=16, but model w=16,h=16"),
        ("ai(image.Image(size=(16, 16)).to_grayscale())", "grayscale img, but model channel=3"),
        ("ai(image.Image(size=(16, 16)).to_grayscale()).to_bitmap(copy=1)", "img bpp not support yet!"),
    ],
)
def test_the_check_of_images(bench: Bench, image: str, printed: str) -> None:
    bench.run("def ai(x):\n    x.pix_to_ai()\n    return x")
    for call in ("kpu.forward(m, {})", "kpu.run_yolo2(m, {})"):
        with pytest.raises(ValueError) as caught:
            bench.run(call.format(image))
        assert str(caught.value) == "[MAIXPY]kpu: check img format err!\r\n"
        assert bench.printed == f"[MAIXPY]kpu: {printed}\n"


def test_the_check_of_images_for_a_gray_model(bench: Bench) -> None:
    bench.run("g = kpu.load('gray.kmodel'); img.pix_to_ai()")
    with pytest.raises(ValueError, match="check img format err"):
        bench.run("kpu.forward(g, img)")
    assert bench.printed == "[MAIXPY]kpu: RGB img, but model channel=1\n"
    bench.run("y = image.Image(size=(16, 16)).to_grayscale(); y.pix_to_ai(); f = kpu.forward(g, y)")
    assert bench.eval("f.ch()") == 4


def test_stale_planes_are_reported_once(bench: Bench) -> None:
    bench.run("img.pix_to_ai(); kpu.forward(m, img)")
    assert bench.notes == ""
    bench.run("img.draw_line(0, 0, 9, 9)\nfor i in range(3): kpu.forward(m, img)")
    assert bench.notes.count("call img.pix_to_ai()") == 1
    assert "draw_line()" in bench.notes


def test_what_forward_takes(bench: Bench) -> None:
    bench.run("img.pix_to_ai(); v = kpu.load('v.kmodel')")
    assert bench.eval("kpu.forward(5, img)") is None
    for source, kind, text in (
        ("kpu.forward(m, (1, 2))", ValueError, "input not support"),
        ("kpu.forward(m, b'12')", ValueError, "input not support"),
        ("kpu.forward(m, kpu.forward(m, img))", ValueError, "input not support"),
        ("kpu.forward(v, [])", ValueError, "[MAIXPY]kpu: check input list format err!\r\n"),
        ("kpu.forward(v, [0] * 1500000)", ValueError, "[MAIXPY]kpu: alloc list mem err!\r\n"),
        ("kpu.forward(v, img)", ValueError, "[MAIXPY]kpu: first layer not conv layer!\r\n"),
        ("kpu.run_yolo2(v, img)", ValueError, "[MAIXPY]kpu: first layer not conv layer!\r\n"),
        ("kpu.forward(m, img, 3)", OSError, "sipeed_kpu_get_output err"),
        ("kpu.get_output(m, 1)", OSError, "2011"),
        ("kpu.get_output(m, True)", ValueError, "[MAIXPY]kpu: get_output arg format error: get_output(task, int idx)"),
        ("kpu.get_output(3, 1)", ValueError, "[MAIXPY]kpu: get_output arg format error: get_output(task, int idx)"),
        ("kpu.forward(m, img, end=3)", TypeError, "extra keyword arguments given"),
        ("kpu.run_yolo2(3, img)", TypeError, "[MAIXPY]kpu: kpu_net type error"),
        ("kpu.run_yolo2(m, 3)", TypeError, "Can't convert int to Image"),
    ):
        with pytest.raises(kind) as caught:
            bench.run(source)
        assert str(caught.value) == text, source
    assert (
        bench.eval("kpu.forward(kpu_net=m, img=img) if 0 else kpu.forward(m, img=img, out_index=0, dma=3)") is not None
    )


def test_a_list_as_input(bench: Bench) -> None:
    wanted = openkpu.load(bb.vector_model()).run(np.array([1, -2, 0.5, 4], np.float32))[0]
    bench.run("v = kpu.load('v.kmodel'); f = kpu.forward(v, [1, -2, 0.5, 4])")
    assert bench.eval("f[:]") == tuple(wanted.tolist())
    assert bench.eval("f.w(), f.h(), f.ch(), f.size()") == (12, 1, 1, 12), "w is in bytes"
    assert bench.run("print(f)").endswith('"typecode": f}\n')
    bench.run("f[0] = 2; f[1:3] = 0.5")
    assert bench.eval("f[:]") == (2.0, 0.5, 0.5)
    with pytest.raises(BoardError) as caught:
        bench.run("kpu.forward(v, [1, 2, 3])")
    assert caught.value.code == "E623"


def test_a_map_without_readable_type(bench: Bench) -> None:
    bench.run("img.pix_to_ai(); f = kpu.forward(m, img)")
    bench.scope["f"]._code = codes.LAYERS[7][1]
    with pytest.raises(TypeError):
        bench.run("f[0]")
    assert bench.printed == "typecode don't support read!\n"
    with pytest.raises(TypeError):
        bench.run("f[0] = 1")
    assert bench.printed == "typecode don't support write!\n"


def layered(tmp_path: Path) -> Bench:
    """Upload-free chain: conv (in AI RAM only), conv to main, dequantize."""
    first = b.conv(0, 8192, 3, 4, 16, 16, k=3, bn_mul=60)
    second = b.conv(8192, 16384, 4, 2, 16, 16, to_main=2048, bn_mul=60)
    last = Dequantize(input=second.main_output, output=b.main(0, DType.F32, 2, 16, 16), scale=0.5, bias=0.0)
    data = v3.write(b.program(first, second, last, main_bytes=4096))
    bench = Bench(tmp_path, sd={"m.kmodel": data})
    bench.run("m = kpu.load('m.kmodel'); img = image.Image(size=(16, 16)); img.draw_circle(8, 8, 5); img.pix_to_ai()")
    return bench


def test_set_layers(tmp_path: Path) -> None:
    bench = layered(tmp_path)
    traced: list[np.ndarray] = []
    program = bench.scope["m"]._handle.file.program
    openkpu.Model(program).run(bench.scope["img"]._ai, trace=lambda i, s, a: traced.append(a))
    assert bench.eval("kpu.set_layers(m, 1)") is True
    assert bench.eval("kpu.forward(m, img)[:]") == tuple(traced[0].reshape(-1).tolist())
    assert bench.eval("kpu.forward(m, img).ch()") == 4
    assert bench.eval("kpu.set_layers(m, 2)") is True
    assert bench.eval("kpu.forward(m, img)[:]") == tuple(traced[1].reshape(-1).tolist())
    assert bench.eval("kpu.set_layers(m, 0)") is True
    assert bench.eval("kpu.forward(m, img)[:]") == tuple(traced[2].reshape(-1).tolist())
    assert bench.eval("kpu.forward(m, img).w(), kpu.forward(m, img).index()") == (2048, 2)
    assert bench.eval("kpu.set_layers(m, 4)") is False
    assert bench.printed == "err: set layers_length to 4, but max 3\n"


def test_set_layers_behind_the_memory_stops_the_board(tmp_path: Path) -> None:
    first = b.conv(0, 8192, 3, 8, 16, 16)
    second = b.conv(8192, 16384, 8, 2, 16, 16, to_main=0)
    bench = Bench(tmp_path, sd={"m.kmodel": v3.write(b.program(first, second))})
    bench.run("m = kpu.load('m.kmodel')")
    with pytest.raises(BoardError) as caught:
        bench.run("kpu.set_layers(m, 1)")
    assert caught.value.code == "E622"


@pytest.mark.parametrize(
    ("number", "printed"),
    [
        (10241, "KL_K210_ADD_PADDING not support output to mainbuf!\n"),
        (10243, "KL_K210_UPLOAD not support output to mainbuf!\n"),
        (24, "Unknow layer type: 24!\n"),
    ],
)
def test_layers_that_cannot_be_the_last(tmp_path: Path, number: int, printed: str) -> None:
    bench = layered(tmp_path)
    handle = bench.scope["m"]._handle
    layers = list(handle.file.layers)
    layers[1] = (number, layers[1][1])
    object.__setattr__(handle.file, "layers", tuple(layers))
    assert bench.run("print(kpu.set_layers(m, 2))") == printed + "True\n"


def test_real_layers_that_cannot_be_the_last(tmp_path: Path) -> None:
    conv = b.conv(0, 8192, 3, 4, 16, 16, to_main=0)
    upload = KpuUpload(input=b.main(0, DType.U8, 4, 16, 16), output=b.ai(4096, 4, 16, 16))
    last = b.conv(4096, 12288, 4, 2, 16, 16, to_main=1024)
    bench = Bench(tmp_path, sd={"m.kmodel": v3.write(b.program(conv, upload, last))})
    bench.run("m = kpu.load('m.kmodel')")
    assert bench.run("kpu.set_layers(m, 2)") == "KL_K210_UPLOAD not support output to mainbuf!\n"


def test_netinfo(tmp_path: Path) -> None:
    bench = layered(tmp_path)
    sizes = [size for _, size in bench.scope["m"]._handle.file.layers]
    assert bench.run("info = kpu.netinfo(m)") == (
        f"layer[0]: KL_K210_CONV, {sizes[0]} bytes\nlayer[1]: KL_K210_CONV, {sizes[1]} bytes\n"
        f"layer[2]: KL_DEQUANTIZE, {sizes[2]} bytes\n"
    )
    names = ["index", "type", "wi", "hi", "wo", "ho", "chi", "cho", "dw", "kernel_type", "pool_type", "para_size"]
    first = [bench.eval(f"info[0].{n}()") for n in names]
    assert first[:11] == [0, 10240, 16, 16, 16, 16, 3, 4, 0, 1, 0]
    assert bench.run("print(info[2])") == (
        '{"index":2, "type":KL_DEQUANTIZE, "wi":0, "hi":0, "wo":0, "ho":0, "chi":0, "cho":0, "dw":0, "kernel_type":0, '
        f'"pool_type":0, "para_size":{sizes[2]}}}\n'
    )
    bench.scope["m"]._handle.layers = 0
    with pytest.raises(ValueError, match="get layer num error!"):
        bench.run("kpu.netinfo(m)")


def test_the_firmwares_table_of_names() -> None:
    assert codes.printed_name(12) == "KL_DEQUANTIZE"
    assert codes.printed_name(21) == "KL_QUANTIZED_TENSORFLOW_FLATTENKL_RESIZE_NEAREST_NEIGHBOR"
    assert codes.printed_name(22) == "KL_QUANTIZED_RESIZE_NEAREST_NEIGHBOR"
    assert codes.printed_name(24) == "KL_LOGISTIC"
    assert codes.printed_name(25) is None
    assert codes.printed_name(10242) == "KL_K210_REMOVE_PADDING"


def test_netinfo_that_never_ends_or_reads_too_far(tmp_path: Path) -> None:
    bench = layered(tmp_path)
    handle = bench.scope["m"]._handle
    layers = handle.file.layers
    for many, count in ((layers * 100, 300), (((25, 8), *layers), 4)):
        object.__setattr__(handle.file, "layers", many)
        handle.layers = count
        with pytest.raises(BoardError) as caught:
            bench.run("kpu.netinfo(m)")
        assert caught.value.code == "E627"


def test_models_that_load_but_do_not_run(tmp_path: Path) -> None:
    conv = b.conv(0, 8192, 3, 4, 4, 4, to_main=64)
    padding = KpuRemovePadding(input=conv.main_output, output=b.main(0, DType.U8, 4))
    good = bytearray(v3.write(b.program(conv, padding)))
    row = 28 + 8 + 8
    good[row : row + 4] = (7).to_bytes(4, "little")
    bench = Bench(tmp_path, sd={"m.kmodel": bytes(good)})
    bench.run("m = kpu.load('m.kmodel')")
    with pytest.raises(OSError, match="ERR_RUN_MODEL: maybe model dirty"):
        bench.run("kpu.forward(m, [1.0] * 64)")
    assert "not part" in bench.notes or "defines it" in bench.notes


# -- V4: the functions around a decoded program; the decoder has its own tests ----------------------------------------


@pytest.fixture
def v4(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    program = bb.float_program(30)
    monkeypatch.setattr(model_file, "load", lambda data: openkpu.Model(program))
    made = Bench(tmp_path, sd={"m.kmodel": bb.v4_header(main=program.main_bytes)})
    made.run("m = kpu.load('m.kmodel'); img = image.Image(size=(8, 8)); img.draw_line(0, 0, 7, 7); img.pix_to_ai()")
    return made


def test_v4_needs_the_shapes_of_its_outputs(v4: Bench) -> None:
    with pytest.raises(OSError) as caught:
        v4.run("kpu.forward(m, img)")
    assert str(caught.value) == "ERR_OUTPUTS_SET: need kpu.set_outputs() to set shape"
    assert "kpu.set_outputs(task, 0, 8, 8, 30)" in v4.notes
    with pytest.raises(OSError, match="get_outputs_shape err"):
        v4.run("kpu.get_output(m, 0)")
    with pytest.raises(OSError, match=r"^get_output err"):
        v4.run("kpu.get_output(m, 1)")
    assert v4.eval("kpu.set_outputs(m, 0, 7, 7, 30)") is False
    assert v4.printed == ("w*h*ch!=7680\n[MAIXPY]kpu: set_outputs arg value error: w,c,ch size not match output size\n")
    assert v4.eval("kpu.set_outputs(m, 1, 8, 8, 30)") is False
    assert v4.printed == "[MAIXPY]kpu: set_outputs arg value error:kmodel output idx 1 out of range\n"
    assert v4.eval("kpu.set_outputs(m, 0, 8, 8, 30)") is True
    v4.run("f = kpu.forward(m, img)")
    assert v4.eval("f.w(), f.h(), f.ch(), f.size(), len(f[:])") == (8, 8, 30, 7680, 1920)
    assert v4.run("print(f)").endswith('"typecode": f}\n')
    with pytest.raises(OSError, match="sipeed_kpu_get_output err"):
        v4.run("kpu.forward(m, img, 2)")


def test_v4_and_functions_for_v3(v4: Bench) -> None:
    assert v4.eval("kpu.set_layers(m, 1)") is True
    assert v4.run("print(kpu.set_layers(m, 9))") == "err: set layers_length to 9, but max 2\nFalse\n"
    with pytest.raises(OSError, match="ERR_NOT_IMPLEMENT"):
        v4.run("kpu.netinfo(m)")


def test_set_outputs_of_v3_and_its_arguments(bench: Bench) -> None:
    assert bench.run("print(kpu.set_outputs(m, 0, 16, 16, 4))") == (
        "[MAIXPY]kpu: set_outputs ctx error, maybe init err:2002\nFalse\n"
    )
    for args in ("3, 0, 1, 1, 1", "m, True, 1, 1, 1", "m, 0, 1.5, 1, 1", "m, 0, 1, 1"):
        with pytest.raises(ValueError) as caught:
            bench.run(f"kpu.set_outputs({args})")
        assert str(caught.value) == (
            "[MAIXPY]kpu: set_outputs arg format error: set_outputs(task, int idx, int w, int h, int ch)"
        )


def test_v4_operators_that_hang_the_board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(data: bytes) -> None:
        raise UnsupportedError("E299", "an operator that the runtime does not have", where="node 3", fix="Remove it.")

    monkeypatch.setattr(model_file, "load", refuse)
    bench = Bench(tmp_path, sd={"m.kmodel": bb.v4_header()})
    bench.run("m = kpu.load('m.kmodel')")
    with pytest.raises(BoardError) as caught:
        bench.run("kpu.forward(m, [1.0])")
    assert caught.value.code == "E626"


def test_v4_without_memory_crashes_the_board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = bb.float_program(30)
    monkeypatch.setattr(model_file, "load", lambda data: openkpu.Model(program))
    bench = Bench(tmp_path, sd={"m.kmodel": bb.v4_header(main=6 * 1024 * 1024)})
    with pytest.raises(BoardError) as caught:
        bench.run("kpu.load('m.kmodel')")
    assert caught.value.code == "E621"
    assert "missing" in bench.notes


# -- the rest ---------------------------------------------------------------------------------------------------------


def test_memtest(bench: Bench) -> None:
    assert bench.run("kpu.memtest()").splitlines() == [
        "###free gc heap memory : 493 KB",
        f"###free sys heap memory: {bench.device.system.free // 1024} KB",
    ]


def test_faces(bench: Bench) -> None:
    encoded = bench.eval("kpu.face_encode([0.25, -0.25, 0.1, -0.1, 0, 3, 0.2499])")
    assert isinstance(encoded, bytearray)
    assert np.frombuffer(encoded, np.int8).tolist() == [-128, -128, 51, -51, 0, -128, 127]
    same = bench.eval("kpu.face_compare(kpu.face_encode([0.1, 0.2]), kpu.face_encode((0.1, 0.2)))")
    assert same == pytest.approx(100, abs=1e-4)
    assert bench.eval("kpu.face_compare(b'\\x01\\x00', b'\\x00\\x01')") == 50.0
    assert bench.eval("kpu.face_compare(b'\\x01', b'\\xff')") == 0.0
    for source, text in (
        ("kpu.face_encode([0.0] * 513)", "feature dim <=200\r\n"),
        ("kpu.face_compare(b'1', b'22')", "compare feature must in same dim!\r\n"),
    ):
        with pytest.raises(ValueError) as caught:
            bench.run(source)
        assert str(caught.value) == text


def test_time_passes_while_a_model_runs(bench: Bench) -> None:
    bench.run("img.pix_to_ai(); a = time.ticks_us(); kpu.forward(m, img); c = time.ticks_us()")
    (run,) = bench.of("run")
    assert run["us"] > 10
    assert abs(bench.eval("c - a") - run["us"] - 10) <= 1
