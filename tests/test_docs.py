"""The documentation keeps up with the code: links, error codes, verbs and options, the generated page, the README."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tools"))
from readme_blocks import blocks, commands  # noqa: E402

PAGES = sorted(
    list(ROOT.glob("*.md")) + [p for f in ("docs", "examples", "benchmarks") for p in (ROOT / f).rglob("*.md")]
)
page = pytest.mark.parametrize("path", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
RUN = {"README.md": 8, "README.zh.md": 8, "docs/getting-started.md": 5, "docs/know-before-you-flash.md": 10}
"""Pages whose commands and Python are run, and how many there are at least."""


def anchors(path: Path) -> set[str]:
    """The names that headings get on the usual hosts."""
    heads = re.findall(r"^#+ (.*)$", path.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in heads}


@page
def test_links_resolve(path: Path) -> None:
    text = re.sub(r"```.*?```", "", path.read_text("utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith(("http://", "https://")):
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def test_every_error_code_is_explained_once() -> None:
    used = {code for p in (ROOT / "src").rglob("*.py") for code in re.findall(r'"(E[1-6]\d\d)"', p.read_text("utf-8"))}
    explained = re.findall(r"^\| (E\d{3}) \|", (ROOT / "docs" / "errors.md").read_text("utf-8"), re.MULTILINE)
    assert len(explained) == len(set(explained))
    assert {"missing in docs/errors.md": used - set(explained), "not in the code": set(explained) - used} == {
        "missing in docs/errors.md": set(),
        "not in the code": set(),
    }


def test_operators_page_is_current() -> None:
    script = ROOT / "tools" / "make_operators_page.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def verbs() -> dict[str, set[str]]:
    """Verb -> its options, from the command line itself."""
    import typer

    from openkpu.cli.app import app

    group = typer.main.get_command(app)
    return {
        name: {o for p in command.params for o in (*p.opts, *p.secondary_opts)} | {"--help", "-h"}
        for name, command in group.commands.items()  # type: ignore[attr-defined]
    }


def test_shown_commands_exist() -> None:
    """Every `kpu VERB --option` in any page is a verb and an option that exist."""
    known = verbs()
    shown = 0
    for path in PAGES:
        text = path.read_text("utf-8")
        for verb, rest in re.findall(r"(?:^|[`$] ?|&& )kpu ([a-z]+)([^`\n]*)", text, re.MULTILINE):
            assert verb in known, f"{path.name}: kpu {verb}"
            options = {o.split("=")[0] for o in re.findall(r"(?<=\s)--?[a-z][\w=-]*", rest)}
            assert options <= known[verb], f"{path.name}: kpu {verb} {options - known[verb]}"
            shown += 1
    assert shown > 20


def test_shown_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    for path in PAGES:
        text = path.read_text("utf-8")
        assert set(re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE)) <= targets, path.name


@pytest.mark.parametrize("name", sorted(RUN))
def test_shown_commands_run(name: str) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'openkpu[onnx]'")
    script = ROOT / "tools" / "run_readme.py"
    done = subprocess.run([sys.executable, script, name], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("ok ") >= RUN[name]


def test_shown_output_that_nothing_prints_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "page.md"
    for line, code in (("b  c", 0), ("b d", 1)):
        file.write_text(f"```sh\nprintf 'a\\nb   c\\n'\n```\n\n```output\na\n...\n{line}\n```\n")
        script = ROOT / "tools" / "run_readme.py"
        done = subprocess.run([sys.executable, script, file], capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        assert (line in done.stdout) == bool(code)


def test_both_readmes_show_the_same() -> None:
    english, chinese = ROOT / "README.md", ROOT / "README.zh.md"
    assert commands(english) == commands(chinese)
    first, second = (
        [re.sub(r"#.*", "", b.text) for b in blocks(f) if b.language == "python"] for f in (english, chinese)
    )
    assert first == second
