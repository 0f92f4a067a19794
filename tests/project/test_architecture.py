"""The shape of the code: import order of the chapters, doors, lazy imports, file sizes, public names."""

import ast
import functools
import inspect
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import hiermarket
from hiermarket import errors

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "hiermarket"

#: The chapters in the order in which the data walks: each imports from itself and from those before it.
CHAPTERS = (
    "errors", "labels", "nomenclature", "schema", "network", "market", "solving", "bilevel", "stages", "results",
    "study", "plot", "cli", "__main__",
)  # fmt: skip

#: Chapters that a chapter leaves alone although they come before it.
STRANGERS = {"bilevel": {"network", "market", "stages"}}

#: The only files that import a package, by the head of their path.
DOORS = {
    "pypsa": "network/from_pypsa.py",
    "dask": "study/",
    "distributed": "study/",
    "highspy": "solving/",
}

#: Seconds to import: only inside functions, or under TYPE_CHECKING.
SLOW = {"pypsa", "linopy", "highspy", "dask", "distributed", "matplotlib"}

#: Names of modules that say nothing.
EMPTY_NAMES = {"utils", "util", "common", "helpers", "helper", "base", "core", "misc", "tools"}

MOST_LINES = 400


@dataclass(frozen=True, slots=True)
class Import:
    """One import statement: the dotted name, its line, and where it is executed."""

    name: str
    line: int
    lazy: bool

    @property
    def top(self) -> str:
        return self.name.partition(".")[0]


def modules() -> list[Path]:
    return sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


def chapter_of(module: Path) -> str:
    return module.parts[0].removesuffix(".py")


def _is_type_checking(test: ast.expr) -> bool:
    return getattr(test, "id", getattr(test, "attr", None)) == "TYPE_CHECKING"


def _imports(node: ast.AST, package: str, *, lazy: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, child.lineno, lazy) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            parents = package.split(".")
            above = ".".join(parents[: len(parents) - child.level + 1]) if child.level else ""
            name = ".".join(filter(None, (above, child.module)))
            # `from hiermarket import market` names a chapter too
            yield from (Import(f"{name}.{alias.name}", child.lineno, lazy) for alias in child.names)
        elif isinstance(child, ast.If) and _is_type_checking(child.test):
            for part in child.body:
                yield from _imports(ast.Module([part], []), package, lazy=True)
            for part in child.orelse:
                yield from _imports(ast.Module([part], []), package, lazy=lazy)
        else:
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _imports(child, package, lazy=lazy or inside)


@functools.cache
def imports_of(module: Path) -> list[Import]:
    tree = ast.parse((PACKAGE / module).read_text(encoding="utf-8"))
    package = ".".join(("hiermarket", *module.parts[:-1]))
    return list(_imports(tree, package, lazy=False))


def chapters_imported(module: Path) -> dict[str, int]:
    """Chapter → line of the imports of this package in a module; `__init__` is the public face."""
    found = {}
    for statement in imports_of(module):
        parts = statement.name.split(".")
        if parts[0] == "hiermarket":
            chapter = parts[1] if len(parts) > 1 and parts[1] in CHAPTERS else "__init__"
            found[chapter] = statement.line
    return found


def test_the_reader_of_imports():
    code = """
import a.b
from . import c
from ..solving import d
if TYPE_CHECKING:
    import e
else:
    import f
def g():
    import h
class I:
    import j
try:
    import k
except ImportError:
    pass
"""
    found = {(i.name, i.lazy) for i in _imports(ast.parse(code), "hiermarket.bilevel", lazy=False)}
    eager = {"a.b", "hiermarket.bilevel.c", "hiermarket.solving.d", "f", "j", "k"}
    assert found == {(name, False) for name in eager} | {("e", True), ("h", True)}


EVERY_MODULE = pytest.mark.parametrize("module", modules(), ids=str)


@EVERY_MODULE
def test_every_module_belongs_to_a_chapter(module: Path):
    assert chapter_of(module) in {*CHAPTERS, "__init__"}, f"{module}: not in CHAPTERS; where does the data pass it?"


@EVERY_MODULE
def test_imports_follow_the_data(module: Path):
    chapter = chapter_of(module)
    if chapter == "__init__":
        return  # the public face gathers all chapters
    position = CHAPTERS.index(chapter)
    allowed = set(CHAPTERS[: position + 1]) - STRANGERS.get(chapter, set())
    wrong = {name: line for name, line in chapters_imported(module).items() if name not in allowed}
    if chapter in {"cli", "__main__"}:  # the last readers of the public face
        wrong.pop("__init__", None)
    assert not wrong, f"hiermarket/{module} imports {wrong} (chapter: line); {chapter} may import {sorted(allowed)}"


@EVERY_MODULE
def test_a_package_has_one_door(module: Path):
    for statement in imports_of(module):
        door = DOORS.get(statement.top)
        assert door is None or module.as_posix().startswith(door), (
            f"hiermarket/{module}:{statement.line} imports {statement.top}, whose only door is hiermarket/{door}"
        )


@EVERY_MODULE
def test_slow_packages_are_imported_where_they_are_used(module: Path):
    eager = [f"{s.name} (line {s.line})" for s in imports_of(module) if s.top in SLOW and not s.lazy]
    assert not eager, f"hiermarket/{module} imports at module level: {', '.join(eager)}; move into the function"


@EVERY_MODULE
def test_names_and_sizes(module: Path):
    assert not EMPTY_NAMES & {part.removesuffix(".py").strip("_") for part in module.parts}, "a name that says nothing"
    lines = len((PACKAGE / module).read_text(encoding="utf-8").splitlines())
    assert lines <= MOST_LINES, f"hiermarket/{module} has {lines} lines; one idea a file, at most {MOST_LINES} lines"


SOURCES = sorted(p.relative_to(ROOT) for d in ("hiermarket", "tests", "benchmarks") for p in (ROOT / d).rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_suppressions_name_their_rule(path: Path):
    """A rule is named, and a reason stands behind it, in the line or just above it."""
    lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
    pattern = re.compile(r"#\s*(?P<what>type:\s*ignore|noqa)(?P<rule>\[[^\]]+\]|:\s*[A-Z]+[0-9]+(,\s*[A-Z]+[0-9]+)*)?")
    for number, line in enumerate(lines):
        for match in pattern.finditer(line):
            behind = line[match.end() :].strip(" #-–,;:")
            above = lines[number - 1].strip() if number else ""
            reason = behind or above.startswith("#")
            assert match["rule"], f"{path}:{number + 1}: {match['what']} without the name of the rule"
            assert reason, f"{path}:{number + 1}: {match['what']} without a reason behind it or in a comment above"


def test_import_is_light():
    """Names of the public face are loaded when they are used: `import hiermarket` costs next to nothing."""
    script = f"import sys, hiermarket; print(*sorted({SLOW!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []


def test_public_names():
    names = hiermarket.__all__
    assert list(names) == sorted(names)
    assert len(set(names)) == len(names)
    missing = [name for name in names if not hasattr(hiermarket, name)]
    assert not missing, f"__all__ of hiermarket names what is not there: {missing}"
    hidden = [name for name in names if name not in dir(hiermarket)]
    assert not hidden, f"dir(hiermarket) does not show {hidden}"


def test_every_chapter_says_what_it_is():
    for module in modules():
        tree = ast.parse((PACKAGE / module).read_text(encoding="utf-8"))
        assert ast.get_docstring(tree), f"hiermarket/{module} has no docstring"


def _drawn(docstring: str) -> dict[str, tuple[str, set[str]]]:
    """Exception → (parent in the drawing, built-in bases in its brackets)."""
    tree, stack = {}, []
    for line in docstring.splitlines():
        match = re.match(r"^    (?P<indent>[│├└─ ]*)(?P<name>[A-Z]\w+Error)(?: \((?P<bases>[\w, ]+)\))?", line)
        if match:
            depth = len(match["indent"]) // 4
            stack[depth:] = [match["name"]]
            builtin = set(match["bases"].split(", ")) if match["bases"] else set()
            tree[match["name"]] = (stack[depth - 1] if depth else "", builtin)
    return tree


def test_the_exception_tree_is_as_drawn():
    real = {}
    for name, kind in inspect.getmembers(errors, inspect.isclass):
        if issubclass(kind, errors.HiermarketError):
            ours = [b.__name__ for b in kind.__bases__ if issubclass(b, errors.HiermarketError)]
            foreign = {b.__name__ for b in kind.__bases__ if not issubclass(b, errors.HiermarketError)}
            real[name] = (ours[0] if ours else "", foreign - {"Exception"})
    assert _drawn(errors.__doc__) == real


def test_every_exception_of_the_package_is_in_the_tree():
    """No module defines an exception of its own outside errors.py."""
    for module in modules():
        if module.name == "errors.py":
            continue
        tree = ast.parse((PACKAGE / module).read_text(encoding="utf-8"))
        own = [
            node.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ClassDef) and any("Error" in ast.unparse(base) for base in node.bases)
        ]
        assert not own, f"hiermarket/{module} defines {own}; exceptions live in errors.py"


def _texts() -> list[Path]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=False, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    kinds = {".py", ".md", ".toml", ".txt", ".yml", ".yaml", ".ipynb", ".csv", ".cfg", ""}
    return [ROOT / name for name in listed.stdout.splitlines() if Path(name).suffix in kinds and (ROOT / name).exists()]


def test_no_traces_of_one_machine():
    """No paths of somebody's disk, no addresses of package indexes, no credentials in addresses."""
    trace = re.compile(
        r"/(?:home|Users|root|work|workspace|mnt)/\w+|index-url|extra-index|find-links|\w+://[^\s/]+/simple\b|://[^\s/@]+:[^\s/@]+@"
    )
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}"
        for path in _texts()
        if path != Path(__file__)
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if trace.search(line)
    ]
    assert not found, "\n".join(found)


def test_pins_are_names_and_versions():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert [line for line in pins if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!+]+", line)] == []
    names = [re.sub(r"[-_.]+", "-", pin.partition("==")[0]).lower() for pin in pins]
    assert len(set(names)) == len(names)


def test_pins_cover_what_the_package_needs():
    metadata = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*metadata["dependencies"], *(d for e in metadata["optional-dependencies"].values() for d in e)]
    plain = {re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", name)[0]).lower() for name in wanted}
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    pinned = {re.sub(r"[-_.]+", "-", line.partition("==")[0]).lower() for line in pins.splitlines()}
    assert plain <= pinned, f"constraints.txt lacks {sorted(plain - pinned)}; run `make constraints`"


def test_equations_are_numbered_as_in_the_documentation():
    """A comment `# (3)  …` above a statement cites equation (3) of docs/model.md."""
    model = (ROOT / "docs" / "model.md").read_text(encoding="utf-8")
    known = {int(number) for number in re.findall(r"^\((\d+)\) ", model, re.MULTILINE)}
    assert known, "no numbered equations in docs/model.md"
    for module in modules():
        code = (PACKAGE / module).read_text(encoding="utf-8")
        cited = {int(number) for number in re.findall(r"^\s*#\s*\((\d+)\)\s", code, re.MULTILINE)}
        assert cited <= known, f"hiermarket/{module} cites {sorted(cited - known)}, which docs/model.md does not have"
