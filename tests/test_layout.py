"""The package's rooms: imports run downward and in no circle, and a name has one meaning."""

import ast
from collections import defaultdict
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOMS = (
    *("cli", "demo", "reports", "search", "serving", "inference", "training", "evaluation"),
    *("rendering", "features", "corpus", "models", "cluster", "tracking", "config", "storage"),
    *("instruments", "terminal", "environment", "errors"),
)
"""Folders and single modules of the package; each may import those to its right."""

PACKAGE = Path(__file__).parents[1] / "irmas_dist"


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


TREES = {module_name(path): ast.parse(path.read_text()) for path in PACKAGE.rglob("*.py")}


def imported(tree: ast.Module) -> set[str]:
    """Return the modules of the package that one imports, in functions and for types too."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute"
            for name in node.names:
                module = f"{node.module}.{name.name}"
                found.add(module if module in TREES else str(node.module))
    return (found & TREES.keys()) - {"irmas_dist"}


IMPORTS = {module: imported(tree) for module, tree in TREES.items()}


def room(module: str) -> str:
    return module.split(".")[1]


def test_imports_run_downward() -> None:
    depth = {name: number for number, name in enumerate(ROOMS)}
    upward = [
        f"{module} imports {other}"
        for module, others in IMPORTS.items()
        if module not in ("irmas_dist", "irmas_dist.__main__")
        for other in others
        if room(module) != room(other) and depth[room(module)] >= depth[room(other)]
    ]
    assert not upward


def test_no_imports_form_a_circle() -> None:
    try:
        TopologicalSorter(IMPORTS).prepare()
    except CycleError as error:
        pytest.fail(f"circle: {' -> '.join(error.args[1])}")


def test_every_room_is_in_the_list() -> None:
    rooms = {room(module) for module in TREES if module != "irmas_dist"}
    assert rooms - {"__main__"} == set(ROOMS)


def test_seven_modules_at_most_lie_loose() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= 7


def test_public_functions_and_classes_have_one_meaning() -> None:
    """A command has the name of the stage that it calls, which is the same meaning."""
    homes = defaultdict(list)
    for module, tree in TREES.items():
        if module.startswith("irmas_dist.cli.") or module == "irmas_dist.__main__":
            continue
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                homes[node.name].append(module)
    twice = {name: sorted(set(places)) for name, places in homes.items() if len(set(places)) > 1}
    assert not twice
