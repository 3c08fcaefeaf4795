"""The package's dependencies, extras, data files and metadata."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tarfile
from importlib import import_module, metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
SOURCES = sorted((ROOT / "math_hash").rglob("*.py"))
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in SOURCES
    if path.stem != "__main__"  # runs the command
]
# modules whose name is not that of the distribution
MODULE_OF = {
    "open_clip_torch": "open_clip",
    "pillow": "PIL",
    "pyyaml": "yaml",
    "faiss-cpu": "faiss",
    "pillow-heif": "pillow_heif",
}

FOR_DEVELOPERS = {"test", "lint", "docs", "dev", "pair", "bench"}  # extras


def requirements() -> dict[str, str]:
    """Each line of requirements.txt, and the comment above it."""
    lines, comment = {}, ""
    for line in (ROOT / "requirements.txt").read_text().splitlines():
        if line.startswith("#"):
            comment += line
        else:
            lines[line], comment = comment, ""
    return lines


def distributions(lines: list[str]) -> set[str]:
    return {Requirement(line).name for line in lines}


def imported_modules() -> set[str]:
    """Top-level names of everything that the package imports, or imports by name with `import_extra`."""
    names: set[str] = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
            elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_extra"):
                names |= {str(argument.value) for argument in node.args[:1] if isinstance(argument, ast.Constant)}
    return {name.split(".")[0] for name in names} - sys.stdlib_module_names - {"math_hash"}


def test_every_dependency_is_imported_or_commented_with_its_user():
    used = imported_modules()
    for line, comment in requirements().items():
        name = Requirement(line).name
        assert MODULE_OF.get(name, name) in used or "needed by" in comment, f"requirements.txt: nothing imports {name}"


def test_everything_imported_is_declared():
    extras = [line for lines in PROJECT["optional-dependencies"].values() for line in lines]
    declared = {MODULE_OF.get(name, name) for name in distributions([*requirements(), *extras])}
    assert not imported_modules() - declared


def test_the_bounds_of_open_clip_include_the_installed_version():
    (line,) = (line for line in requirements() if line.startswith("open_clip_torch"))
    bounds = Requirement(line).specifier
    assert {bound.operator for bound in bounds} == {">=", "<"}
    assert metadata.version("open_clip_torch") in bounds


def test_every_extra_that_an_error_names_exists():
    named = set()
    for path in SOURCES:
        named |= set(re.findall(r"math_hash\[(\w+)\]", path.read_text())) - {"extra"}
        named |= set(re.findall(r"import_extra\(\s*\"[\w.]+\",\s*\"(\w+)\"", path.read_text()))
    assert {"search", "milvus", "postgresql", "onnx", "huggingface"} <= named
    assert not named - set(PROJECT["optional-dependencies"])


@pytest.mark.parametrize("name", MODULES)
def test_every_module_imports(name):
    import_module(name)


@pytest.mark.slow
def test_the_package_alone_needs_no_extra():
    """What `make demo` installs is enough for everything but the server, whose modules need FastAPI."""
    extras = {name: lines for name, lines in PROJECT["optional-dependencies"].items() if name not in FOR_DEVELOPERS}
    missing = distributions([line for lines in extras.values() for line in lines])
    hidden = {MODULE_OF.get(name, name.replace("-", "_")) for name in missing}
    modules = [name for name in MODULES if not name.startswith("math_hash.retrieval.server")]
    done = subprocess.run([sys.executable, "-c", WITHOUT.format(hidden=hidden, modules=modules)], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


WITHOUT = """
import sys
from importlib import import_module
class WithoutHidden:
    def __init__(self, finder):
        self.finder = finder
    def __getattr__(self, name):
        return getattr(self.finder, name)
    def find_spec(self, name, path=None, target=None):
        return None if name.split(".")[0] in {hidden!r} else self.finder.find_spec(name, path, target)
sys.meta_path[:] = map(WithoutHidden, sys.meta_path)
for name in {modules!r}:
    import_module(name)
"""


@pytest.mark.slow
def test_the_wheel_of_the_sdist_trains_in_an_environment_of_its_own(tmp_path, tiny_flags):
    """Built like a release; of the requirements, which are not downloaded again, the environment sees this one's."""
    source, wheels, place = tmp_path / "source", tmp_path / "wheels", tmp_path / "environment"
    shutil.copytree(ROOT / PROJECT["name"], source / PROJECT["name"], ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "requirements.txt", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    outside = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(*command, cwd=tmp_path):
        done = subprocess.run([*map(str, command)], cwd=cwd, env=outside, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    build = f"from setuptools import build_meta; build_meta.build_sdist({str(tmp_path)!r})"
    run(sys.executable, "-c", build, cwd=source)
    (sdist,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", wheels, unpacked)

    run(sys.executable, "-m", "venv", "--without-pip", place)
    run(*pip, "--python", place / "bin/python", "install", "--no-deps", "--no-index", *wheels.glob("*.whl"))
    (site,) = (place / "lib").glob("python*/site-packages")
    (site / "requirements.pth").write_text(f"{Path(pytest.__file__).parents[1]}\n")
    where = run(place / "bin/python", "-c", "import math_hash; print(math_hash.__file__, math_hash.__version__)")
    assert where.split() == [str(site / "math_hash/__init__.py"), str(Version(PROJECT["version"]))]
    run(place / "bin/math-hash", "train", *tiny_flags, "--epochs", 1)
    assert (tmp_path / "run/model.safetensors").exists()


def test_every_requirement_has_a_lower_bound():
    extras = [lines for name, lines in PROJECT["optional-dependencies"].items() if name not in FOR_DEVELOPERS]
    for line in (*requirements(), *(line for lines in extras for line in lines)):
        assert any(bound.operator == ">=" for bound in Requirement(line).specifier), line


def test_every_file_that_is_not_python_is_package_data():
    patterns = PYPROJECT["tool"]["setuptools"]["package-data"]["math_hash"]
    package = ROOT / "math_hash"
    packaged = {path for pattern in patterns for path in package.glob(pattern)}
    others = {path for path in package.rglob("*") if path.is_file() and path.parent.name != "__pycache__"}
    assert others - {*SOURCES} == packaged
    assert package / "py.typed" in packaged


def test_descriptions_of_the_package_agree():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["title"] == PROJECT["name"]
    assert citation["authors"] == PROJECT["authors"] == [{"name": "math_hash contributors"}]
    assert citation["license"] == PROJECT["license"]
    assert citation["repository-code"] == PROJECT["urls"]["Source"]
    assert all(url.startswith(PROJECT["urls"]["Source"]) for url in PROJECT["urls"].values())
    assert f"## [{Version(PROJECT['version']).base_version}]" in (ROOT / "CHANGELOG.md").read_text()


def test_ci_runs_the_second_command_of_the_readme():
    commands = re.findall(r"^    (make [\w-]+)", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert (ROOT / ".ci/run").read_text().splitlines()[-2:] == ["make lint", commands[1]]
    workflow = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text())
    steps = workflow["jobs"]["tests"]["steps"]
    assert [step["run"] for step in steps if "run" in step] == ["make lint", commands[1]]
