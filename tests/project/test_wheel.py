"""What is installed from a wheel: the code, its types, the networks with their sources."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.nightly  # the build tools are installed afresh for each build


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build from a copy, so that nothing is left behind in the checkout."""
    source, made = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for folder in ("hiermarket", "networks"):
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        assert (ROOT / file).exists(), f"{file} is missing"
        shutil.copy(ROOT / file, source / file)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(made), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (file,) = made.glob("hiermarket-*.whl")
    return file


def test_wheel_has_every_module(wheel: Path):
    inside = set(zipfile.ZipFile(wheel).namelist())
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "hiermarket").rglob("*.py")}
    assert modules <= inside, f"not in the wheel: {sorted(modules - inside)}; see packages in pyproject.toml"


def test_wheel_has_types_licence_and_networks(wheel: Path):
    inside = set(zipfile.ZipFile(wheel).namelist())
    networks = {f"hiermarket/networks/{path.name}" for path in (ROOT / "networks").glob("*.nc")}
    assert networks, "no networks to ship"
    wanted = {"hiermarket/py.typed", "hiermarket/networks/SOURCES.md"} | networks
    assert wanted <= inside, f"not in the wheel: {sorted(wanted - inside)}"
    assert any(name.endswith("licenses/LICENSE") for name in inside)


def test_installed_wheel_loads_a_case(wheel: Path, tmp_path: Path):
    """Unpacked elsewhere and imported from there, the package finds its networks."""
    zipfile.ZipFile(wheel).extractall(tmp_path)
    script = "import hiermarket; print(hiermarket.__file__); hiermarket.load_case('ieee33')"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,  # comes first on the path of `python -c`
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(tmp_path))
