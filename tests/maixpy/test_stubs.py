"""The editor stubs name what the modules have, no more and no less."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from board_bench import Bench

import openkpu.maixpy

STUBS = Path(openkpu.maixpy.__file__).parent / "stubs"
WHOLE = ("KPU", "sensor", "lcd", "fpioa_manager", "time", "utime", "machine", "gc", "uos", "Maix")
ALSO = {"Maix": {"MIC_ARRAY"}, "fpioa_manager": {"FPIOA"}, "uos": {"mount", "umount"}}
"""Names that only one side has, on purpose."""


def named(body: list[ast.stmt]) -> dict[str, ast.stmt]:
    found: dict[str, ast.stmt] = {}
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            found[node.name] = node
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found[node.target.id] = node
    return {n: v for n, v in found.items() if not n.startswith("_")}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("stubs"), firmware="full")


@pytest.mark.parametrize("path", sorted(STUBS.glob("*.pyi")), ids=lambda p: p.stem)
def test_what_a_stub_names_exists(bench: Bench, path: Path) -> None:
    module = bench.script.load(path.stem)
    for name, node in named(ast.parse(path.read_text()).body).items():
        value = getattr(module, name, None)
        if path.stem == "KPU" and name.startswith("kpu_"):
            continue  # the types of results, which the module itself does not name
        if name == "Image":
            continue  # a class for the editor, a function on the board
        assert value is not None, name
        if isinstance(node, ast.ClassDef):
            missing = [n for n in named(node.body) if not hasattr(value, n)]
            assert missing == [], name


@pytest.mark.parametrize("name", WHOLE)
def test_what_exists_is_in_the_stub(bench: Bench, name: str) -> None:
    stub = set(named(ast.parse((STUBS / f"{name}.pyi").read_text()).body))
    module = {n for n in vars(bench.script.load(name)) if not n.startswith("_")}
    assert module - stub - ALSO.get(name, set()) == set()
