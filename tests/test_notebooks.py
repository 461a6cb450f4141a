"""The notebooks run, cell by cell, and the tool that runs them notices what is wrong with one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
sys.path.insert(0, str(ROOT / "tools"))
import run_notebooks  # noqa: E402


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebooks_run(path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'openkpu[onnx]'")
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "run_notebooks.py", path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"ok     {path.name}, ")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebooks_explain(path: Path) -> None:
    """A title, a line in Chinese, and at least as much text as code; cells have names for a readable diff."""
    cells = json.loads(path.read_text("utf-8"))["cells"]
    first = run_notebooks.source(cells[0])
    assert first.startswith("# ")
    assert "中文概要" in first.splitlines()[2]
    assert len({c["id"] for c in cells}) == len(cells)
    kinds = [c["cell_type"] for c in cells]
    assert len(NOTEBOOKS) >= 2
    assert kinds.count("markdown") >= kinds.count("code") - 2 >= 4


def notebook(tmp_path: Path, *cells: dict[str, Any], version: int = 4) -> Path:
    file = tmp_path / "n.ipynb"
    filled = [{"cell_type": "code", "outputs": [], "execution_count": None} | c for c in cells]
    file.write_text(json.dumps({"nbformat": version, "cells": filled}))
    return file


def test_what_is_wrong_is_noticed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_notebooks.run(notebook(tmp_path, {"source": "x = 1"}, {"source": ["y = x\n", "assert y == 1"]}))
    for cell, words in (
        ({"source": "assert 1 == 2"}, "code cell 1"),
        ({"source": "1", "outputs": [1]}, "has outputs"),
        ({"source": "1", "execution_count": 3}, "has outputs"),
        ({"source": "!ls"}, "has a magic"),
    ):
        assert not run_notebooks.run(notebook(tmp_path, cell))
        assert words in capsys.readouterr().out
    assert not run_notebooks.run(notebook(tmp_path, {"source": "1"}, version=3))
    assert not run_notebooks.run(tmp_path / "absent.ipynb")
