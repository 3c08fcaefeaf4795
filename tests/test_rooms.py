"""The package's rooms: which may import which, no import cycles, and limits on the size of files and functions."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "math_hash"
# single files, below all rooms
GROUND = ("errors", "files", "mat", "mat_v5", "plain_data", "protocols", "progress", "config")

# Room -> the rooms that it may import, besides itself.
BELOW = {
    "ground": set(),
    "hamming": {"ground"},
    "data": {"ground", "hamming"},
    "encoders": {"ground", "hamming", "data"},
    "methods": {"ground", "hamming", "data", "encoders"},
    "models": {"ground", "hamming", "data", "encoders", "methods"},
    "evaluation": {"ground", "hamming", "data"},
    "training": {"ground", "hamming", "data", "encoders", "methods", "models", "evaluation"},
    "retrieval": {"ground", "hamming", "data", "models"},
}
BELOW["cli"] = set(BELOW)
BELOW["testing"] = BELOW["__main__"] = {*BELOW, "package"}
# math_hash/__init__.py: what it imports at once
BELOW["package"] = {"ground"}

LINES_OF_A_FILE, LINES_OF_A_FUNCTION = 300, 60
EMPTY_NAMES = {"utils", "util", "helpers", "helper", "misc", "common"}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted((ROOT / PACKAGE).rglob("*.py"))}


def room_of(module: str) -> str:
    if module == PACKAGE:
        return "package"
    first = module.split(".")[1]
    return "ground" if first in GROUND else first


def named_modules(node: ast.AST, module: str) -> Iterator[str]:
    """Dotted names that an import statement, or a call of `import_module` with a literal, names."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        parts = module.split(".") if MODULES[module].name == "__init__.py" else module.split(".")[:-1]
        base = ".".join(parts[: len(parts) - node.level + 1]) if node.level else ""
        source = ".".join(filter(None, (base, node.module)))
        yield from (f"{source}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.Call):
        called = getattr(node.func, "attr", getattr(node.func, "id", ""))
        if called == "import_module" and node.args and isinstance(node.args[0], ast.Constant):
            yield str(node.args[0].value)


def at_once(tree: ast.Module) -> Iterator[ast.AST]:
    """The nodes that run when a module is imported."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += [child for child in ast.iter_child_nodes(node) if not is_put_off(child)]


def is_put_off(node: ast.AST) -> bool:
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return True
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)


@cache
def imports() -> dict[str, dict[str, int]]:
    """Module -> the package's modules that it imports anywhere, also in functions and for types, and the first line.

    Of `math_hash/__init__.py`, which imports names of all rooms lazily, only the imports at module level count.
    """
    graph: dict[str, dict[str, int]] = {}
    for module, path in MODULES.items():
        tree = ast.parse(path.read_text())
        edges: dict[str, int] = {}
        for node in at_once(tree) if module == PACKAGE else ast.walk(tree):
            for name in named_modules(node, module):
                while name and name not in MODULES:  # a class or function: the module that defines it
                    name = name.rpartition(".")[0]
                if name and name != module:
                    edges[name] = min(node.lineno, edges.get(name, node.lineno))
        graph[module] = edges
    return graph


def line_of(module: str, imported: str) -> str:
    return f"{MODULES[module].relative_to(ROOT)}:{imports()[module][imported]} imports {imported}"


def test_every_module_belongs_to_a_room():
    homeless = [module for module in MODULES if room_of(module) not in BELOW]
    assert not homeless, f"no room of these names; the rooms are {', '.join(BELOW)}: {homeless}"


def test_no_import_points_upward():
    wrong = [
        f"{line_of(module, imported)}: {room_of(module)} may not know {room_of(imported)}"
        for module, edges in imports().items()
        for imported in edges
        if room_of(imported) not in {room_of(module), *BELOW.get(room_of(module), ())}
    ]
    assert not wrong, "\n".join(["imports that point upward:", *wrong])


def test_modules_have_no_import_cycles():
    circles = [
        "\n  ".join(line_of(one, other) for one, other in zip(circle, [*circle[1:], circle[0]], strict=True))
        for circle in shortest_circles(imports())
    ]
    assert not circles, "\n".join(["circles of imports:", *circles])


def shortest_circles(edges: dict[str, dict[str, int]]) -> list[list[str]]:
    """For each module on a circle, the shortest one through it; each circle once."""
    circles: dict[frozenset[str], list[str]] = {}
    for start in edges:
        paths = [[start]]
        seen = set()
        while paths:
            path = paths.pop(0)
            if start in edges[path[-1]]:
                circles.setdefault(frozenset(path), path)
                break
            reached = [name for name in edges[path[-1]] if name not in seen]
            seen.update(reached)
            paths += [[*path, name] for name in reached]
    return list(circles.values())


def test_a_cycle_is_found():
    edges = {"a": {"b": 1}, "b": {"c": 1}, "c": {"b": 1, "d": 1}, "d": {}}
    assert shortest_circles(edges) == [["b", "c"]]


@pytest.mark.parametrize("folder", [PACKAGE, "tests", "benchmarks", "tools", "main.py"])
def test_files_and_functions_are_short(folder):
    root = ROOT / folder
    long = []
    for path in [root] if root.is_file() else sorted(root.rglob("*.py")):
        text, name = path.read_text(), path.relative_to(ROOT)
        lines = len(text.splitlines())
        if lines > LINES_OF_A_FILE:
            long.append(f"{name}: {lines} lines; a file has at most {LINES_OF_A_FILE}")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = node.end_lineno - node.lineno + 1
                if lines > LINES_OF_A_FUNCTION:
                    long.append(
                        f"{name}:{node.lineno} {node.name}: {lines} lines; a function has at most {LINES_OF_A_FUNCTION}"
                    )
    assert not long, "\n".join(["too long:", *long])


def test_no_module_has_a_meaningless_name():
    named = [
        str(path.relative_to(ROOT))
        for folder in (PACKAGE, "tests", "benchmarks", "tools")
        for path in (ROOT / folder).rglob("*")
        if path.stem in EMPTY_NAMES
    ]
    assert not named, f"names that say nothing of what is inside: {named}"
