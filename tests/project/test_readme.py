"""The code of README.md and of the manuals in docs runs: what a newcomer copies works.

Python blocks run one after the other in one namespace; console blocks are typed into a shell,
those commands of theirs that begin with `$ hiermarket` or `hiermarket`. A block stays unrun, and
says so, with a comment in the line above it: `<!-- not run: the reason -->`.
"""

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README, BILEVEL, STUDIES = ROOT / "README.md", ROOT / "docs" / "bilevel.md", ROOT / "docs" / "studies.md"
UNCERTAINTY = ROOT / "docs" / "uncertainty.md"
SCHEMES = ROOT / "docs" / "schemes.md"
EQUILIBRIUM, RESOURCES = ROOT / "docs" / "equilibrium.md", ROOT / "docs" / "resources.md"

_BLOCK = re.compile(
    r"^(?P<skip><!--\s*not run:.*-->\s*\n)?```(?P<language>\w+)[^\n]*\n(?P<code>.*?)^```\s*$", re.MULTILINE | re.DOTALL
)

LONGEST = 300  # [s] for one command


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block of code: its language, its text, its first line in the file, whether it is to run."""

    language: str
    code: str
    line: int
    runs: bool


def blocks(text: str) -> list[Block]:
    return [
        Block(m["language"], m["code"], text.count("\n", 0, m.start("code")) + 1, not m["skip"])
        for m in _BLOCK.finditer(text)
    ]


def commands(block: Block) -> list[str]:
    """The hiermarket commands of a console block, with continued lines put together."""
    joined = re.sub(r"\s*\\\n\s*", " ", block.code)
    typed = [line.removeprefix("$ ").strip() for line in joined.splitlines()]
    return [line for line in typed if line.startswith("hiermarket ")]


def running(page: Path) -> list[Block]:
    assert page.exists(), f"{page.name} is missing"
    found = [block for block in blocks(page.read_text(encoding="utf-8")) if block.runs]
    assert any(block.language == "python" for block in found), f"{page.name} shows no Python that runs"
    return found


@pytest.mark.parametrize(
    "page", [README, BILEVEL, STUDIES, UNCERTAINTY, SCHEMES, EQUILIBRIUM, RESOURCES], ids=lambda page: page.name
)
def test_python_blocks(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    if page == BILEVEL:
        pytest.importorskip("pyscipopt")
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": page.stem}
    for block in running(page):
        if block.language == "python":
            # blank lines in front: a traceback then names the line of the page
            source = "\n" * (block.line - 1) + block.code
            exec(compile(source, str(page), "exec"), namespace)


def test_console_blocks(tmp_path: Path):
    typed = [
        c
        for page in (README, SCHEMES)
        for block in running(page)
        if block.language in {"console", "bash", "sh", "shell"}
        for c in commands(block)
    ]
    assert typed, "README.md shows no `hiermarket` command"
    for command in typed:
        arguments = shlex.split(command, comments=True)[1:]
        done = subprocess.run(
            [sys.executable, "-m", "hiermarket", *arguments],
            cwd=tmp_path,
            env=os.environ,
            capture_output=True,
            text=True,
            timeout=LONGEST,
            check=False,
        )
        assert done.returncode == 0, f"$ {command}\n{done.stdout}{done.stderr}"


def test_blocks_are_found():
    text = (
        "a\n```python\nx = 1\n```\n<!-- not run: needs a cluster -->\n```python\ny\n```\n"
        "```console\n$ hiermarket a \\\n  b\nout\n```\n"
    )
    first, second, third = blocks(text)
    assert (first.code, first.line, first.runs) == ("x = 1\n", 3, True)
    assert not second.runs
    assert commands(third) == ["hiermarket a b"]
