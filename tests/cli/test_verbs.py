"""Every verb: what it prints, its JSON, its exit codes."""

import json
import re

import numpy as np
import program_builders as build
import pytest

import openkpu
from openkpu.analyze.yolo import decode
from openkpu.float.data import load_samples
from openkpu.kmodel import v3
from openkpu.kmodel.program import Dequantize, DType
from openkpu.kpu.limits import MAX_THREADS

VERBS = ("check", "compile", "run", "compare", "eval", "inspect", "pack", "unpack", "flash")


@pytest.fixture
def compiled(kpu, net, pictures, tmp_path):
    out = tmp_path / "net.kmodel"
    assert kpu("compile", net, "--calibration", pictures, "-o", out).exit_code == 0
    return out


# -- help ---------------------------------------------------------------------------------------------------------
def test_help_lists_the_verbs(kpu):
    result = kpu("--help")
    assert result.exit_code == 0
    assert all(re.search(rf"^  {verb} ", result.stdout, re.MULTILINE) for verb in VERBS)


def test_help_of_inspect_names_every_version(kpu):
    assert "V3, V4 or V5 is opened" in " ".join(kpu("inspect", "--help").output.split())


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb_has_an_example_and_reads_on(kpu, verb):
    result = kpu(verb, "--help")
    assert result.exit_code == 0
    assert f"\n    kpu {verb} " in result.stdout
    assert "Read on:" in result.stdout
    assert "--json" in result.stdout


def test_version(kpu):
    assert kpu("--version").stdout == f"kpu {openkpu.__version__}\n"


# -- inspect ------------------------------------------------------------------------------------------------------
def test_inspect(kpu, kmodel):
    result = kpu("inspect", kmodel)
    assert result.exit_code == 0
    for part in (
        "kmodel V3",
        "MaixPy builds without V4",
        "uint8 3x16x16",
        "2 KPU layers, 0 CPU steps",
        "3x3, max 2x2",
        "AI 64..79",
        "main 0..255",
        "What to do",
    ):
        assert part in result.stdout, part
    assert "3x3, max 2x2" not in kpu("inspect", kmodel, "--no-steps").stdout


def test_inspect_json(kpu, kmodel):
    data = json.loads(kpu("inspect", kmodel, "--json").stdout)
    assert set(data) == {"file", "file_bytes", "kind", "version", "title", "advice", "firmware", "model"}
    assert data["kind"] == "kmodel-v3"
    model = data["model"]
    assert set(model) == {
        "inputs",
        "outputs",
        "memory",
        "kpu_layers",
        "cpu_steps",
        "macs",
        "kpu_macs",
        "notes",
        "steps",
    }
    assert model["macs"] == 16 * 16 * 9 * 3 * 8 + 8 * 8 * 8 * 4
    assert model["inputs"] == [{"dtype": "uint8", "shape": [3, 16, 16], "memory": "ai", "start": 0}]
    assert [s["output_shape"] for s in model["steps"]] == [[8, 8, 8], [4, 8, 8]]
    assert model["memory"]["file_bytes"] == kmodel.stat().st_size


def test_inspect_graph_is_an_svg(kpu, kmodel, tmp_path):
    result = kpu("inspect", kmodel, "--graph", tmp_path / "graph.png")
    assert result.exit_code == 2
    assert not (tmp_path / "graph.png").exists()
    assert kpu("inspect", kmodel, "--graph", tmp_path / "graph.SVG").exit_code == 0
    assert (tmp_path / "graph.SVG").read_text("utf-8").startswith("<svg")


def test_inspect_check(kpu, kmodel):
    assert "no memory mistake" in kpu("inspect", kmodel, "--check").stdout
    assert json.loads(kpu("inspect", kmodel, "--check", "--json").stdout)["findings"] == []


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"LDMK\x06\0\0\0", "kmodel V6"),
        (b"\x01\0\0\0", "kmodel V1"),
        (b"\x13\x27\0\0", "encrypted"),
        (b"\x1c\0\0\0TFL3", "TensorFlow Lite"),
    ],
)
def test_kinds_that_cannot_be_read_are_named(kpu, tmp_path, head, words):
    file = tmp_path / "some.file"
    file.write_bytes(head + bytes(64))
    result = kpu("inspect", file)
    assert result.exit_code == 0
    assert words in result.stdout
    assert "What to do" in result.stdout
    assert json.loads(kpu("inspect", file, "--json").stdout)["model"] is None
    assert kpu("inspect", file, "--check").exit_code == 1


@pytest.mark.parametrize("content", [b"", b"abc", b"hello, world\n", bytes(range(256)), b"\x03\0\0\0" * 20])
@pytest.mark.parametrize("verb", ["inspect", "run"])
def test_hostile_files_give_one_error_block(kpu, tmp_path, content, verb):
    file = tmp_path / "hostile.kmodel"
    file.write_bytes(content)
    result = kpu(verb, file, *([tmp_path / "x.png"] if verb == "run" else []))
    assert result.exit_code == 1
    assert result.stdout == ""
    assert re.match(r"error E\d{3}: ", result.stderr)
    assert result.stderr.count("error E") == 1
    assert "Traceback" not in result.stderr


def test_every_truncation_is_explained(kpu, kmodel):
    data = kmodel.read_bytes()
    for length in range(0, len(data) - 1, 97):
        kmodel.write_bytes(data[:length])
        result = kpu("inspect", kmodel)
        assert result.exit_code == 1, length
        assert result.stderr.startswith("error E"), length
        assert str(kmodel.name) in "".join(result.stderr.split()), length


# -- errors -------------------------------------------------------------------------------------------------------
def test_errors_as_json(kpu, tmp_path):
    result = kpu("inspect", tmp_path / "nothing", "--json")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert json.loads(result.stderr)["error"]["code"] == "E510"


@pytest.mark.parametrize(
    "args",
    [
        ("fly",),
        ("inspect",),
        ("compile", "a.onnx"),
        ("compile", "a.onnx", "--calibration", "x", "-o", "y", "--mean", "red"),
        ("compile", "a.onnx", "--calibration", "x", "-o", "y", "--input-range", "1"),
        ("check", "a.onnx", "--input-shape", "1,3,4,4"),
        ("check", "a.onnx", "--input-shape", "x=1,3,0,4"),
        ("run", "a.kmodel", "b.png", "--engine", "warp"),
        ("run", "a.kmodel", "b.png", "--anchors", "1,a"),
        ("run", "a.kmodel", "b.png", "--threads", str(MAX_THREADS + 1)),
    ],
)
def test_wrong_usage_is_exit_2(kpu, args):
    result = kpu(*args)
    assert result.exit_code == 2
    assert "Error" in result.stderr


def test_an_unexpected_error_is_one_line(kpu, kmodel, monkeypatch):
    monkeypatch.delenv("KPU_DEBUG", raising=False)

    def broken(path):
        raise RuntimeError("first\nsecond")

    monkeypatch.setattr("openkpu.analyze.inspect.inspect", broken)
    result = kpu("inspect", kmodel)
    assert result.exit_code == 1
    assert result.stderr.startswith("internal error: RuntimeError: first second; please report")
    assert result.stderr.count("\n") == 1
    monkeypatch.setenv("KPU_DEBUG", "1")
    assert isinstance(kpu("inspect", kmodel).exception, RuntimeError)


def test_ctrl_c_is_130_and_quiet(kpu, kmodel, monkeypatch):
    def interrupted(path):
        raise KeyboardInterrupt

    monkeypatch.setattr("openkpu.analyze.inspect.inspect", interrupted)
    result = kpu("inspect", kmodel)
    assert (result.exit_code, result.stdout, result.stderr) == (130, "", "")


# -- run ----------------------------------------------------------------------------------------------------------
def test_every_allowed_number_of_threads_runs(kpu, kmodel, pictures):
    assert kpu("run", kmodel, pictures / "picture_0.png", "--threads", MAX_THREADS).exit_code == 0


def test_run_saves_and_traces(kpu, kmodel, pictures, tmp_path):
    result = kpu("run", kmodel, pictures, "--save", tmp_path / "o.npz", "--trace", tmp_path / "steps")
    assert result.exit_code == 0, result.stderr
    assert "uint8 4x8x8" in result.stdout
    saved = np.load(tmp_path / "o.npz")
    assert saved["output0"].shape == (5, 4, 8, 8)
    assert [n.rpartition("/")[2] for n in saved["names"]] == [f"picture_{i}.png" for i in range(5)]
    traced = np.load(tmp_path / "steps" / "003_picture_2" / "001_KpuConv.npy")
    np.testing.assert_array_equal(traced, saved["output0"][2])
    array = np.random.default_rng(0).integers(0, 256, (3, 16, 16), np.uint8)
    np.save(tmp_path / "in.npy", array)
    assert kpu("run", kmodel, tmp_path / "in.npy", "--save", tmp_path / "one.npz").exit_code == 0
    np.testing.assert_array_equal(np.load(tmp_path / "one.npz")["output0"][0], openkpu.load(kmodel).run(array)[0])


def test_engines_agree(kpu, kmodel, pictures, tmp_path):
    for engine in ("native", "reference"):
        assert kpu("run", kmodel, pictures, "--engine", engine, "--save", tmp_path / f"{engine}.npz").exit_code == 0
    a, b = (np.load(tmp_path / f"{engine}.npz")["output0"] for engine in ("native", "reference"))
    np.testing.assert_array_equal(a, b)


def test_run_json_and_check(kpu, kmodel, pictures):
    data = json.loads(kpu("run", kmodel, pictures, "--check", "--json").stdout)
    assert len(data["inputs"]) == 5
    first = data["inputs"][0]
    assert set(first) == {"name", "seconds", "outputs", "findings"}
    assert first["findings"] == []
    assert set(first["outputs"][0]) == {"dtype", "shape", "min", "max", "mean", "kind", "top"}


def test_run_shows_boxes(kpu, pictures, tmp_path):
    conv = build.conv(0, 64, 3, 16, 8, 8, to_main=0)
    floats = Dequantize(
        input=build.main(0, DType.U8, 16, 8, 8), output=build.main(1024, DType.F32, 16, 8, 8), scale=0.1, bias=-6.0
    )
    file = tmp_path / "boxes.kmodel"
    file.write_bytes(v3.write(build.program(conv, floats)))
    picture = pictures / "picture_0.png"
    options = ("--anchors", "1,1,2,3", "--classes", "3", "--threshold", "0.01")
    data = json.loads(kpu("run", file, picture, *options, "--json").stdout)
    (output,) = openkpu.load(file).run(load_samples(picture, (3, 8, 8))[0].array)
    boxes = decode(output, (1, 1, 2, 3), threshold=0.01)
    assert [(b["label"], b["score"]) for b in data["inputs"][0]["boxes"]] == [(b.label, b.score) for b in boxes]
    assert boxes
    text = kpu("run", file, picture, *options).stdout
    assert text.count("%") == len(boxes)
    assert "E433" in kpu("run", file, picture, "--anchors", "1,1,2,3", "--classes", "4").stderr


def test_run_explains_what_cannot_be_an_input(kpu, kmodel, pictures, tmp_path):
    np.save(tmp_path / "wrong.npy", np.zeros((3, 5, 5), np.uint8))
    for bad in (tmp_path / "wrong.npy", tmp_path / "no.png", kmodel):
        result = kpu("run", kmodel, bad)
        assert result.exit_code == 1
        assert result.stderr.startswith("error E4") or result.stderr.startswith("error E5")
    assert "E433" in kpu("run", kmodel, pictures, "--anchors", "1,1").stderr
    assert "E511" in kpu("run", kmodel, pictures, "--save", tmp_path / "no" / "folder.npz").stderr


# -- check, compile, compare --------------------------------------------------------------------------------------
def test_check(kpu, net):
    result = kpu("check", net)
    assert result.exit_code == 0, result.stderr
    assert "Verdict" in result.stdout
    assert "odd_pool" in result.stdout
    data = json.loads(kpu("check", net, "--json").stdout)
    assert set(data) == {
        "file",
        "target",
        "firmware",
        "layers",
        "counts",
        "microseconds",
        "cpu_microseconds",
        "verdict",
    }
    places = {d["layer"]: d["where"] for d in data["layers"]}
    assert places["first"] == places["second"] == "KPU"
    assert places["odd_pool"] == "CPU"
    reason = next(d for d in data["layers"] if d["layer"] == "odd_pool")
    assert reason["why"]
    assert reason["fix"]


def test_check_of_something_else(kpu, kmodel, tmp_path):
    for bad in (kmodel, tmp_path / "no.onnx"):
        result = kpu("check", bad)
        assert result.exit_code == 1
        assert result.stderr.startswith("error E")


def test_compile_writes_the_same_bytes_twice(kpu, net, pictures, compiled, tmp_path):
    again = tmp_path / "again.kmodel"
    result = kpu("compile", net, "--calibration", pictures, "-o", again)
    assert result.exit_code == 0
    assert again.read_bytes() == compiled.read_bytes()
    assert "main RAM" not in result.stdout.split("Next")[0]  # kpu inspect calls file and scratch that
    for part in (
        "KPU",
        "AI RAM",
        "scratch",
        "accuracy",
        "only 5 calibration picture",
        f"kpu run {again}",
        "no model.json",
    ):
        assert part in result.stdout, part


def test_compile_json(kpu, net, pictures, tmp_path):
    out, dump = tmp_path / "o.kmodel", tmp_path / "dump"
    result = kpu("compile", net, "--calibration", pictures, "-o", out, "--json", "--dump", dump)
    data = json.loads(result.stdout)
    assert {"output", "sidecar", "kpu_layers", "ai_peak", "ai_bound", "file_bytes", "way", "warnings"} <= set(data)
    assert data["file_bytes"] == out.stat().st_size
    assert any(dump.iterdir())


def test_the_sidecar_gives_normalisation_and_labels(kpu, net, pictures, tmp_path):
    beside = tmp_path / "net.onnx"
    beside.write_bytes(net.read_bytes())
    spec = {"input": {"range": [0, 1], "mean": [0.5] * 3, "std": [0.25] * 3}, "labels": ["ant", "bee", "cow", "dog"]}
    (tmp_path / "model.json").write_text(json.dumps(spec))
    result = kpu("compile", beside, "--calibration", pictures, "-o", tmp_path / "a.kmodel")
    assert "mean and std are from" in result.stdout
    kpu("compile", beside, "--calibration", pictures, "-o", tmp_path / "b.kmodel", "--mean", "127.5", "--std", "63.75")
    assert (tmp_path / "a.kmodel").read_bytes() == (tmp_path / "b.kmodel").read_bytes()
    run = kpu("run", tmp_path / "a.kmodel", pictures / "picture_0.png", "--top", "2")
    assert sum(name in run.stdout for name in spec["labels"]) == 2
    assert "labels are from" in run.stdout


@pytest.mark.parametrize("out", ["no/a.kmodel", "file/a.kmodel", "folder", "device"])
def test_compile_refuses_at_once_to_write_nowhere(kpu, net, pictures, tmp_path, monkeypatch, out):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    (tmp_path / "device").symlink_to("/dev/null")
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr("openkpu.compiler.compile", None)  # calling it would be an internal error
    result = kpu("compile", net, "--calibration", pictures, "-o", tmp_path / out)
    assert result.exit_code == 1
    assert result.stderr.startswith("error E511")
    named = tmp_path / out if "/" not in out else (tmp_path / out).parent
    assert str(named) in "".join(result.stderr.split())
    assert sorted(tmp_path.rglob("*")) == before


def test_compare(kpu, net, pictures, compiled):
    result = kpu("compare", net, compiled, "--data", pictures)
    assert result.exit_code == 0, result.stderr
    for part in ("first", "second", "scores", "of 5", "least squares"):
        assert part in result.stdout, part
    data = json.loads(kpu("compare", net, compiled, "--data", pictures, "--json").stdout)
    assert set(data) == {"model", "kmodel", "pictures", "layers", "outputs", "notes", "worst", "sidecar"} | {
        *("warnings", "mean", "std", "advice")
    }
    assert data["warnings"] == []
    assert "input: (pixel - 0) / 255" in result.stdout
    assert [x["layer"] for x in data["layers"]][:2] == ["first", "second"]
    assert data["outputs"][0]["snr_db"] > 20
    assert 0 <= data["outputs"][0]["top1"] <= 5
    assert all(x["snr_db"] > 20 and x["cosine"] > 0.99 for x in data["layers"])


def test_inspect_opens_v4(kpu, tmp_path):
    import v4_builders

    from openkpu.kmodel import v4

    file = tmp_path / "some.kmodel"
    file.write_bytes(v4.write(v4_builders.every_operator(2)))
    text = kpu("inspect", file).stdout
    for words in ("kmodel V4", "Binary", "Resize", "set_outputs"):
        assert words in text
    model = json.loads(kpu("inspect", file, "--json", "--check").stdout)["model"]
    assert model["steps"][0]["op"] == "Binary"
    assert model["steps"][0]["detail"] == "add"
    file.write_bytes(file.read_bytes()[:1000])
    assert kpu("inspect", file).exit_code == 1
