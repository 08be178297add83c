"""Imports run one way: flows -> tasks -> (fute, storage); the library knows no engine."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from graphlib import CycleError, TopologicalSorter

import pytest

from tests.conftest import REPOSITORY

FORBIDDEN = {
    "fute": {"prefect", "mlflow", "duckdb", "storage", "tasks", "flows"},
    "storage": {"prefect", "tasks", "flows"},
    "tasks": {"flows"},
}


# The one door from the library to the store: `fute.open` looks at a store, and imports it when it is asked for.
DOOR = "fute/__init__.py"


def imported(source: str) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add((node.module or "").partition(".")[0])
    return names


@pytest.mark.parametrize("package", sorted(FORBIDDEN))
def test_imports_run_one_way(package: str) -> None:
    files = list((REPOSITORY / package).rglob("*.py"))
    assert files
    wrong = {str(f.relative_to(REPOSITORY)): found for f in files
             if (found := imported(f.read_text()) & FORBIDDEN[package])}  # fmt: skip
    assert wrong.pop(DOOR, {"storage"}) == {"storage"}
    assert wrong == {}


def test_no_imports_go_in_a_circle_not_even_within_functions() -> None:
    roots = ("flows", "tasks", "storage", "fute")
    sources = {
        ".".join(file.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__"): file.read_text()
        for root in roots
        for file in (REPOSITORY / root).rglob("*.py")
    }

    def modules(source: str) -> set[str]:
        names = set()
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                within = {f"{node.module}.{alias.name}" for alias in node.names}
                names |= within if within <= sources.keys() else {node.module, *(within & sources.keys())}
        return names & sources.keys()

    within = "def f():\n from fute import drift\n from fute.llm.types import x"
    assert modules(within) == {"fute.drift", "fute.llm.types"}
    try:
        TopologicalSorter({name: modules(source) - {name} for name, source in sources.items()}).prepare()
    except CycleError as exc:
        pytest.fail(" imported by ".join(exc.args[1]))


def test_the_library_knows_of_the_store_only_when_it_is_asked_for() -> None:
    tree = ast.parse((REPOSITORY / DOOR).read_text())
    (door,) = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert door.name == "open"
    assert imported(ast.unparse(door)) == {"storage"}
    everything = "import sys, fute; print(sorted({'storage', 'duckdb', 'prefect', 'mlflow'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", everything], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_a_wheel_would_carry_every_package() -> None:
    listed = set(tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    files = [f for root in ("flows", "tasks", "storage", "fute") for f in (REPOSITORY / root).rglob("*.py")]
    found = {str(f.parent.relative_to(REPOSITORY)).replace("/", ".") for f in files}
    assert found == listed
