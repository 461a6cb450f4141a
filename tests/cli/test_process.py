"""The command in a process of its own: start-up, pipes, terminals."""

import os
import subprocess
import sys
from pathlib import Path

SOURCE = str(Path(__file__).parents[2] / "src")


def kpu(*args: object, **changes: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": SOURCE, "PYTHONIOENCODING": "utf-8"} | changes
    command = [sys.executable, "-m", "openkpu", *map(str, args)]
    return subprocess.run(command, capture_output=True, encoding="utf-8", env=environment, timeout=60, check=False)


def test_exit_codes(kmodel, tmp_path):
    good, missing, usage = kpu("inspect", kmodel), kpu("inspect", tmp_path / "no"), kpu("fly")
    assert (good.returncode, missing.returncode, usage.returncode) == (0, 1, 2)
    assert good.stderr == ""
    assert missing.stdout == ""
    assert missing.stderr.startswith("error E510")


def test_plain_without_a_terminal(kmodel):
    assert "\x1b" not in kpu("inspect", kmodel).stdout
    assert kpu("inspect", kmodel, PYTHONIOENCODING="ascii").returncode == 0


def test_help_loads_nothing_heavy():
    heavy = "{'numpy', 'rich', 'onnx', 'onnxruntime', 'PIL'}"
    code = f"import openkpu, openkpu.cli.app, sys; print(sorted({heavy} & set(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": SOURCE}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert result.stdout.strip() == "[]"


def test_a_closed_pipe_is_quiet(kmodel):
    code = (
        "import os, sys; r, w = os.pipe(); os.close(r); os.dup2(w, 1);"
        f"sys.argv = ['kpu', 'inspect', {str(kmodel)!r}];"
        "from openkpu.cli import main; main()"
    )
    environment = {**os.environ, "PYTHONPATH": SOURCE}
    result = subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, env=environment, check=False)
    assert result.stderr == b""
    assert result.returncode == 1
