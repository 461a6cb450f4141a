"""One compile and simulation by nncase 1.9, in its own interpreter.

nncase 1.9 has no wheel beyond Python 3.10, so it cannot live in OpenKPU's environment. `compare_nncase.py` starts this
file with the interpreter named by OPENKPU_NNCASE_PYTHON, one process a model: a model that crashes nncase costs only
its own row.

    $OPENKPU_NNCASE_PYTHON nncase_worker.py JOB.json

The job is a JSON object:
    model        path of an ONNX, TFLite or caffemodel file (its prototxt of the same name beside it)
    data         path of an .npz with `calib` and `eval`, uint8, (N, *input shape without the batch)
    mean, std    one number a channel, in picture units (0 to 255)
    layout       "NCHW" or "NHWC": the layout of the model's input
    out          directory that receives model.kmodel, outputs.npz (`out0`, `out1`, ...: float32, one row a picture),
                 log.txt and result.json

result.json is written after every stage, so that what was reached before a crash stays: `stage`, `import_s`,
`compile_s` (import, compile and code generation together), `compile_cpu_s`, `peak_rss_mb`, `kmodel_bytes`, `memory`
(bytes as nncase prints them: input, output, data, model, total), `sim_ms` (median of one inference), `versions`, and
`error` when Python saw one.

Only the standard library, NumPy, onnx, onnxruntime and nncase are used here; Python 3.10.
"""

import json
import os
import re
import resource
import statistics
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import onnxruntime  # noqa: F401  before nncase on purpose: in the other order nncase 1.9 crashes the process

MEMORY_LINE = re.compile(r"^\.?(input|output|data|MODEL|TOTAL)\s+[\d.]+ \w+\s+\((\d+) B\)", re.M)


def captured(log):
    """Send file descriptor 1 and 2 (nncase prints from C++) to the file `log`."""
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    os.close(handle)


def memory_figures(text):
    """The memory table that nncase prints after code generation, in bytes."""
    return {m.group(1).lower(): int(m.group(2)) for m in MEMORY_LINE.finditer(text)}


def prepared(path):
    """An ONNX model's bytes with every tensor's shape written in: the importer refuses models without value_info."""
    return onnx.shape_inference.infer_shapes(onnx.load(path)).SerializeToString()


def import_into(compiler, path, options):
    """Hand the model to the importer of its format."""
    path = Path(path)
    if path.suffix == ".onnx":
        compiler.import_onnx(prepared(path), options)
    elif path.suffix == ".tflite":
        compiler.import_tflite(path.read_bytes(), options)
    else:
        compiler.import_caffe(path.read_bytes(), path.with_suffix(".prototxt").read_bytes())


def cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main(job_path):
    job = json.loads(Path(job_path).read_text())
    out = Path(job["out"])
    out.mkdir(parents=True, exist_ok=True)
    result = {"stage": "start"}

    def save(stage, **more):
        result.update(more, stage=stage)
        (out / "result.json").write_text(json.dumps(result, indent=1))

    save("start")
    captured(str(out / "log.txt"))
    import nncase

    data = np.load(job["data"])
    calibration, pictures = np.ascontiguousarray(data["calib"]), data["eval"]
    shape = [1, *calibration.shape[1:]]
    save("loaded", versions={"nncase": version("nncase"), "python": sys.version.split()[0]}, samples=len(calibration))

    options = nncase.CompileOptions()
    options.target = "k210"
    options.input_type = "uint8"
    options.preprocess = True
    options.input_shape = shape
    options.input_range = [0, 255]
    options.mean = [float(v) for v in job["mean"]]
    options.std = [float(v) for v in job["std"]]
    options.input_layout = options.model_layout = options.output_layout = job["layout"]
    ptq = nncase.PTQTensorOptions()
    ptq.samples_count = len(calibration)
    ptq.set_tensor_data(calibration.tobytes())

    wall, cpu = time.perf_counter(), cpu_seconds()
    try:
        compiler = nncase.Compiler(options)
        import_into(compiler, job["model"], nncase.ImportOptions())
        save("imported", import_s=time.perf_counter() - wall)
        compiler.use_ptq(ptq)
        compiler.compile()
        kmodel = compiler.gencode_tobytes()
    except Exception as error:  # nncase raises RuntimeError, IndexError, ValueError and plain Exception
        save(result["stage"], error=f"{type(error).__name__}: {error}", compile_s=time.perf_counter() - wall)
        return 1
    save(
        "compiled",
        compile_s=time.perf_counter() - wall,
        compile_cpu_s=cpu_seconds() - cpu,
        peak_rss_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        kmodel_bytes=len(kmodel),
    )
    (out / "model.kmodel").write_bytes(kmodel)

    try:
        simulator = nncase.Simulator()
        simulator.load_model(kmodel)
        outputs, milliseconds = [], []
        for picture in pictures:
            simulator.set_input_tensor(0, nncase.RuntimeTensor.from_numpy(np.ascontiguousarray(picture[None])))
            begin = time.perf_counter()
            simulator.run()
            milliseconds.append((time.perf_counter() - begin) * 1e3)
            outputs.append([simulator.get_output_tensor(i).to_numpy().copy() for i in range(simulator.outputs_size)])
    except Exception as error:
        save("compiled", error=f"simulator: {type(error).__name__}: {error}")
        return 1
    columns = enumerate(zip(*outputs, strict=True))
    joined = {f"out{i}": np.concatenate([np.asarray(o, np.float32) for o in column]) for i, column in columns}
    np.savez_compressed(out / "outputs.npz", **joined)
    save("done", sim_ms=statistics.median(milliseconds), memory=memory_figures((out / "log.txt").read_text()))
    return 0


if __name__ == "__main__":
    code = main(sys.argv[1])
    sys.stdout.flush()
    sys.exit(code)
