"""Loading models: every text and code of the firmware, provoked."""

from __future__ import annotations

import struct
from pathlib import Path

import board_bench as bb
import program_builders as b
import pytest
from board_bench import Bench

from openkpu.errors import BoardError
from openkpu.kmodel.detect import byteswap
from openkpu.maixpy.kpu import codes

MODEL = bb.image_model()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    files = {"m.kmodel": MODEL, "m.txt": MODEL, "junk.kmodel": b"\x07" * 64, "short.kmodel": b"\x03\0\0"}
    return Bench(tmp_path, sd=files, flash={0x300000: MODEL, 0x600000: byteswap(MODEL)})


def test_by_path_and_by_address(bench: Bench) -> None:
    bench.run("a = kpu.load('m.kmodel'); c = kpu.load(0x300000)")
    assert bench.eval("a.model_path(), a.model_addr(), a.model_size()") == ("m.kmodel", None, len(MODEL))
    assert bench.eval("c.model_path(), c.model_addr()") == (None, 0x300000)
    assert bench.run("print(a)") == (
        f'{{"model_addr": 0, "model_size": {len(MODEL)}, "model_path": "m.kmodel", "net_args": "(null)"}}\n'
    )
    assert '"model_addr": 3145728' in bench.run("print(c)")
    assert '"model_path": "(null)"' in bench.printed


@pytest.mark.parametrize(
    ("call", "kind", "text"),
    [
        ("kpu.load(0)", ValueError, "[MAIXPY]kpu: model_addr must > 0 "),
        ("kpu.load(-5)", ValueError, "[MAIXPY]kpu: model_addr must > 0 "),
        ("kpu.load('m.txt')", ValueError, "[MAIXPY]kpu: model format don't match, only supply .kmodel "),
        ("kpu.load([1, 2])", TypeError, "[MAIXPY]kpu: only accept int or string"),
        ("kpu.load((1,))", TypeError, "[MAIXPY]kpu: only accept int or string"),
        ("kpu.load(b'm.kmodel')", TypeError, "[MAIXPY]kpu: only accept int or string"),
        ("kpu.load(True)", TypeError, "[MAIXPY]kpu: only accept int or string"),
        ("kpu.load('none.kmodel')", ValueError, "[MAIXPY]kpu: load error:2005, ERR_READ_FILE: read file failed"),
        ("kpu.load('short.kmodel')", ValueError, "[MAIXPY]kpu: load error:2005, ERR_READ_FILE: read file failed"),
        ("kpu.load(0xFFFFF0)", ValueError, "[MAIXPY]kpu: load error:2005, ERR_READ_FILE: read file failed"),
        (
            "kpu.load('junk.kmodel')",
            ValueError,
            "[MAIXPY]kpu: load error:2002, ERR_KMODEL_VERSION: only support kmodel V3/V4 now",
        ),
        (
            "kpu.load(0x400000)",
            ValueError,
            "[MAIXPY]kpu: load error:2002, ERR_KMODEL_VERSION: only support kmodel V3/V4 now",
        ),
        ("kpu.load_flash(0, 1, 1, 1)", ValueError, "[MAIXPY]kpu: model_addr must > 0 "),
        (
            "kpu.load_flash(0x300000, True, 1, 1)",
            ValueError,
            "[MAIXPY]kpu: load_flash arg format error: "
            "task=kpu.load_flash(flash_addr, is_dual_buf, batch_size, spi_speed)",
        ),
        (
            "kpu.load_flash(0x300000, 1, 1, 60000000)",
            ValueError,
            "[MAIXPY]kpu: load_flash error:2002, ERR_KMODEL_VERSION: only support kmodel V3/V4 now",
        ),
        ("kpu.deinit(5)", TypeError, "[MAIXPY]kpu: kpu_net type error"),
    ],
)
def test_what_it_refuses(bench: Bench, call: str, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind) as caught:
        bench.run(call)
    assert str(caught.value) == text


def test_the_explanations(bench: Bench) -> None:
    for call, words in (
        ("kpu.load(0x400000)", "the flash is erased"),
        ("kpu.load_flash(0x300000, 1, 1, 60000000)", "not swapped"),
        ("kpu.load('none.kmodel')", "ENOENT"),
    ):
        with pytest.raises(ValueError):
            bench.run(call)
        assert words in bench.of("note")[-1]["text"]


def test_a_v3_build_words_it_differently(tmp_path: Path) -> None:
    bench = Bench(tmp_path, firmware="minimum", sd={"v4.kmodel": bb.v4_header(), "junk.kmodel": bytes(range(99, 199))})
    for name in ("v4", "junk"):
        with pytest.raises(ValueError, match=r"load error:2002, ERR_KMODEL_VERSION: only support kmodel V3$"):
            bench.run(f"kpu.load('{name}.kmodel')")


def encrypted(word: int, length: int) -> bytes:
    return struct.pack("<II", word, length) + bytes(200)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (encrypted(10003, 160), "2004, ERR_DECRYPT: check smodel match with your board"),
        (encrypted(10003, 161), "2003, ERR_KMODEL_FORMAT: layer_header.body_size <=0"),
        (encrypted(0x534D444C, 160), "2004, ERR_DECRYPT"),
        (encrypted(0x454D444C, 160), "2004, ERR_DECRYPT"),
        (MODEL[:8] + struct.pack("<I", 1) + MODEL[12:], "2002, ERR_KMODEL_VERSION"),
        (MODEL + bytes(0x600001 - len(MODEL)), "2003, ERR_KMODEL_FORMAT"),
    ],
)
def test_codes_of_files(tmp_path: Path, data: bytes, code: str) -> None:
    bench = Bench(tmp_path, sd={"x.smodel.kmodel": data})
    with pytest.raises(ValueError, match=f"load error:{code}"):
        bench.run("kpu.load('x.smodel.kmodel')")


def changed(data: bytes, offset: int, value: int) -> bytes:
    return data[:offset] + struct.pack("<I", value) + data[offset + 4 :]


def test_codes_of_flash(tmp_path: Path) -> None:
    first_row = 28 + 8
    empty_body = changed(MODEL, first_row + 4, 0)
    huge = changed(MODEL, first_row + 4, 0x700000)
    flash = {0x300000: empty_body, 0x400000: huge, 0x500000: bb.v4_header(version=5), 0x600000: bb.v4_header(nodes=0)}
    flash[0x700000] = changed(MODEL, 12, 0x20000)
    bench = Bench(tmp_path, flash=flash)
    for address, text in (
        (0x300000, "2003, ERR_KMODEL_FORMAT"),
        (0x400000, "2003, ERR_KMODEL_FORMAT"),
        (0x500000, "2015, ERR_UNKNOWN"),
        (0x600000, "2015, ERR_UNKNOWN"),
        (0x700000, "2015, ERR_UNKNOWN"),
    ):
        with pytest.raises(ValueError, match=f"load error:{text}"):
            bench.run(f"kpu.load({address})")
        assert ("model size err" in bench.printed) == (address == 0x400000)


def test_five_models_and_deinit(bench: Bench) -> None:
    free = bench.device.system.free
    bench.run("nets = [kpu.load('m.kmodel') for _ in range(5)]")
    with pytest.raises(ValueError, match="2009, ERR_MODELS_FULL: we only support load 5 models in the same time"):
        bench.run("kpu.load('m.kmodel')")
    assert bench.eval("kpu.deinit(nets[0]), kpu.deinit(nets[0])") == (True, True)
    bench.run("nets[0] = kpu.load(0x300000)")
    bench.run("for n in nets: kpu.deinit(n)")
    assert bench.device.system.free == free


def test_a_lost_model_is_freed_by_the_next_collection(bench: Bench) -> None:
    free = bench.device.system.free
    bench.run("n = kpu.load('m.kmodel')")
    assert bench.run("n = None") == ""
    assert bench.device.system.free < free
    assert bench.run("gc.collect()") == "kpu_net __del__\n"
    assert bench.device.system.free == free


def test_memory_runs_out(tmp_path: Path) -> None:
    big = bb.kmodel(b.conv(0, 8192, 3, 4, 16, 16, to_main=0), main_bytes=5 * 1024 * 1024)
    bench = Bench(tmp_path, sd={"big.kmodel": big}, firmware="full")
    free = bench.device.system.free
    with pytest.raises(ValueError, match="load error:2006, ERR_NO_MEM: memory not enough"):
        bench.run("kpu.load('big.kmodel')")
    assert "main RAM" in bench.notes
    assert "missing" in bench.notes
    assert bench.notes.count("model: the file") == 1, "what was allocated before the failure is not counted twice"
    assert "firmware minimum: frees" in bench.notes
    assert "load_flash" in bench.notes
    assert bench.device.system.free == free, "a failed load leaves nothing behind"
    small = Bench(tmp_path, sd={"big.kmodel": big}, firmware="minimum", gc_heap=128 * 1024)
    small.run("a = kpu.load('big.kmodel'); kpu.deinit(a); a = kpu.load('big.kmodel')")
    with pytest.raises(ValueError, match="2006"):
        small.run("kpu.load('big.kmodel')")


def test_streaming(bench: Bench) -> None:
    assert bench.run("t = kpu.load_flash(0x600000, 1, 0xC000, 60000000)") == "SPI freq 60000000 Hz\n"
    bench.run("s = kpu.load(0x300000); img = image.Image(size=(16, 16)); img.draw_circle(8, 8, 5); img.pix_to_ai()")
    assert bench.eval("kpu.forward(t, img)[:]") == bench.eval("kpu.forward(s, img)[:]")
    runs = bench.of("run")
    assert runs[0]["us"] > runs[1]["us"], "reading the weights takes time"
    blocks = [x.what for x in bench.device.system.blocks if "streamed" in x.what]
    assert sum("layer buffer" in x for x in blocks) == 2
    assert not any("the file" in x for x in blocks)


@pytest.mark.parametrize("where", ["sd", "flash"])
def test_damaged_models_stop_the_board(tmp_path: Path, where: str) -> None:
    outside = changed(MODEL, MODEL.index(struct.pack("<I", 10240)) + 4 + 4 + 4, 1 << 20)  # main_mem_out
    bench = Bench(tmp_path, sd={"m.kmodel": outside}, flash={0x300000: outside})
    with pytest.raises(BoardError) as caught:
        bench.run("kpu.load('m.kmodel')" if where == "sd" else "kpu.load(0x300000)")
    assert caught.value.code == "E620"


def test_v5_from_a_card_crashes_the_board(tmp_path: Path) -> None:
    bench = Bench(tmp_path, sd={"v5.kmodel": bb.v4_header(version=5)})
    with pytest.raises(BoardError) as caught:
        bench.run("kpu.load('v5.kmodel')")
    assert (caught.value.code, "fault load" in caught.value.why) == ("E621", True)


def test_a_layer_too_large_to_stream(tmp_path: Path) -> None:
    large = bb.kmodel(b.fully_connected(4096, 0, 1024, 640))
    bench = Bench(tmp_path, flash={0x100000: byteswap(large)}, firmware="minimum")
    with pytest.raises(BoardError, match="too large to be streamed") as caught:
        bench.run("kpu.load_flash(0x100000, 0, 1, 60000000)")
    assert caught.value.code == "E621"


@pytest.mark.parametrize("layers", [507, 508])
def test_more_layers_than_the_streaming_loader_reads(tmp_path: Path, layers: int) -> None:
    steps = [b.fully_connected(0, 64, 4, 4), *[b.fully_connected(64, 64, 4, 4)] * (layers - 1)]
    bench = Bench(tmp_path, flash={0x100000: byteswap(bb.kmodel(*steps))}, firmware="minimum")
    call = "kpu.load_flash(0x100000, 0, 1, 60000000)"
    if layers <= 507:
        assert bench.run(call) == "SPI freq 60000000 Hz\n"
        return
    with pytest.raises(BoardError, match="too many layers") as caught:
        bench.run(call)
    assert caught.value.code == "E295"


def test_using_a_freed_model_stops_the_board(bench: Bench) -> None:
    bench.run("n = kpu.load('m.kmodel'); kpu.deinit(n); img = image.Image(size=(16, 16)); img.pix_to_ai()")
    for call in ("kpu.forward(n, img)", "kpu.get_output(n, 0)", "kpu.netinfo(n)", "kpu.set_layers(n, 1)"):
        with pytest.raises(BoardError) as caught:
            bench.run(call)
        assert caught.value.code == "E629"
    for call in ("kpu.netinfo(5)", "kpu.set_layers(None, 1)", "kpu.fmap(3, 0)"):
        with pytest.raises(BoardError) as caught:
            bench.run(call)
        assert caught.value.code == "E629"


def test_every_code_has_its_text() -> None:
    texts = {
        0: "ERR_NONE",
        2001: "ERR_PARAM: please check param, load address or kmodel file name",
        2003: "ERR_KMODEL_FORMAT: layer_header.body_size <=0",
        2007: "ERR_GET_CONV_LAYER: first layer should be conv layer",
        2010: "ERR_PERMITION",
        2011: "SIPEED_KPU_ERR_IDX_OUTRANGE",
        2012: "SIPEED_KPU_ERR_SIZE_NOTMATCH",
        2014: "ERR_NOT_IMPLEMENT",
        2015: "ERR_UNKNOWN",
        4711: "ERR_UNKNOWN",
    }
    for code, text in texts.items():
        assert codes.text(code, v4=True) == codes.text(code, v4=False) == text
