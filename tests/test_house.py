"""The rules of the house: direction of imports, public names, a light start, sizes, no words of a workplace."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import openkpu

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "openkpu"
sys.path.insert(0, str(ROOT / "tools"))
from check_imports import broken, upward  # noqa: E402
from rooms import ROOMS  # noqa: E402

HEAVY = ("numpy", "onnx", "onnxruntime", "rich", "typer", "PIL", "scipy")
LINES = 400
# Files that may be longer, with the reason.
LONG: dict[str, str] = {
    "src/openkpu/kmodel/v3_layers.py": "one table: a declaration for each layer type of the format",
}
LOOKED_AT = {".py", ".md", ".toml", ".cpp", ".hpp", ".txt", ".sh", ".json", ".svg", ""}


def committed() -> list[Path]:
    """The files of the repository; all files of an unpacked archive."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("not a git clone")
    return [p for name in done.stdout.split("\0") if name and (p := ROOT / name).is_file()]


def test_imports_run_downwards() -> None:
    assert upward() == []
    assert broken() == []


def test_the_import_rule_can_fail(tmp_path: Path) -> None:
    package = tmp_path / "openkpu"
    for name, text in {
        "kmodel/__init__.py": "from openkpu.graph import ir\n",
        "runtime/__init__.py": "def f() -> None:\n    import openkpu.codegen\n",
        "attic/__init__.py": "",
        "kpu/__init__.py": "from openkpu import _native\nfrom openkpu.errors import OpenKPUError\n",
        "ops/__init__.py": "from openkpu import load\nfrom . import x\n",
    }.items():
        (package / name).parent.mkdir(parents=True)
        (package / name).write_text(text)
    assert broken(package) == [
        "openkpu/attic/__init__.py: the room 'attic' is not in tools/rooms.py",
        "openkpu/kmodel/__init__.py:1: 'kmodel' may not import 'graph'",
        "openkpu/ops/__init__.py:1: 'ops' may not import '__init__'",
        "openkpu/ops/__init__.py:2: 'ops' may not import '(relative import)'",
        "openkpu/runtime/__init__.py:2: 'runtime' may not import 'codegen'",
    ]
    assert upward({"a": frozenset("b"), "b": frozenset()}) == ["'a' lists 'b', which is not above it"]


def test_every_room_exists() -> None:
    assert {r for r in ROOMS if not ((PACKAGE / r).is_dir() or (PACKAGE / f"{r}.py").is_file())} == set()


def test_public_names() -> None:
    classes = ["Board", "Compiled", "Converted", "Model", "OpenKPUError", "Profile"]
    names = [*classes, "__version__", "check", "compare", "compile", "convert", "evaluate", "load", "profile"]
    assert sorted(openkpu.__all__) == names
    assert all(getattr(openkpu, name) is not None for name in names)
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        _ = openkpu.lod


@pytest.mark.parametrize("module", ["openkpu", "openkpu.errors", "openkpu.k210", "openkpu.kmodel.detect"])
def test_a_light_start(module: str) -> None:
    code = f"import sys, {module}; print(*sorted({set(HEAVY)!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_every_folder_is_a_package() -> None:
    folders = {p.parent for p in PACKAGE.rglob("*.py")}
    assert {str(f.relative_to(ROOT)) for f in folders if not (f / "__init__.py").is_file()} == set()
    assert (PACKAGE / "py.typed").is_file()


def test_length_of_files() -> None:
    """A warning, not a failure: a long file has two ideas in it, or is named above."""
    long = {
        str(p.relative_to(ROOT)): n for p in PACKAGE.rglob("*.py") if (n := len(p.read_text().splitlines())) > LINES
    }
    assert set(LONG) <= {str(p.relative_to(ROOT)) for p in PACKAGE.rglob("*.py")}
    for name in sorted(long.keys() - LONG.keys()):
        warnings.warn(f"{name} has {long[name]} lines, more than {LINES}: two ideas?", stacklevel=1)


def test_no_words_of_a_workplace() -> None:
    """Nothing that is true on one machine only: absolute paths, hosts of private package indexes, open ends."""
    host = r"https?://(?:localhost|127\.|10\.|192\.168\.|[\w.-]*(?:artifactory|nexus|devpi|\.internal|\.local\b))"
    words = re.compile(rf"(?<![\w.])/(?:work|root|home/\w+)/|{host}|\bTO" + r"DO\b|\bFIX" + r"ME\b|\bXX" + r"X\b")
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}"
        for path in committed()
        if path.suffix in LOOKED_AT and path != Path(__file__)
        for number, line in enumerate(path.read_text("utf-8", errors="replace").splitlines(), 1)
        if words.search(line)
    ]
    assert found == []
