"""The documentation site: its pages are made of what stands elsewhere, and `make docs` checks its links."""

from __future__ import annotations

import importlib.util
import re
from types import ModuleType
from typing import Any

import pytest
import yaml

from flows.cli import main
from fute.config import Study
from fute.schema_text import describe_markdown
from tests.conftest import REPOSITORY


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    pytest.importorskip("mkdocs", reason="the site's generator is not installed; pip install 'fute[docs]'")
    spec = importlib.util.spec_from_file_location("mkdocs_hooks", REPOSITORY / "mkdocs_hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_study_page_has_every_class_and_its_types_lead_to_them() -> None:
    page = describe_markdown(Study)
    headings = {name.lower() for name in re.findall(r"^## (\w+)$", page, re.MULTILINE)}
    assert {"study", "poolconfig", "sklearnmodel", "crosscovconfig"} <= headings
    assert set(re.findall(r"\]\(#(\w+)\)", page)) <= headings
    assert "| `rows_per_source` | integer >= 1 | 15 | At most so many rows of each source" in page
    fields = [line for line in page.splitlines() if line.startswith("| `")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in fields} == {5}  # a bar in a text would open a cell


def test_the_commands_page_has_the_help_of_each(hooks: ModuleType) -> None:
    page = hooks.commands()
    for name in main.commands:
        assert f"## fute {name}" in page
    assert "## fute select prompts" in page


@pytest.mark.parametrize(
    ("page", "link", "led_to"),
    [
        ("tour.md", "[a](../README.md#prompted-llms)", "[a](index.md#prompted-llms)"),
        ("tour.md", "[a](sql.md)", "[a](sql.md)"),
        ("index.md", "![a](docs/map.png)", "![a](map.png)"),
        ("index.md", "[a](examples/zoo.yaml)", "[a](files/examples/zoo.yaml)"),
        ("measurements.md", "[a](../docs/benchmarks.md#x)", "[a](benchmarks.md#x)"),
        ("index.md", "[a](https://example.org/docs/x.md)", "[a](https://example.org/docs/x.md)"),
        ("index.md", "[a](docs/nowhere.md)", "[a](nowhere.md)"),  # which a strict build refuses
    ],
)
def test_links_of_the_repository_lead_to_the_site(hooks: ModuleType, page: str, link: str, led_to: str) -> None:
    class Page:
        class file:
            src_uri = page

    nothing: Any = None
    assert hooks.on_page_markdown(link, Page, nothing, nothing) == led_to


def test_every_document_has_a_place_in_the_navigation() -> None:
    settings = (REPOSITORY / "mkdocs.yml").read_text()
    named = set(re.findall(r"[\w-]+\.md", settings[settings.index("\nnav:") :]))
    assert {page.name for page in (REPOSITORY / "docs").glob("*.md")} <= named
    assert yaml.safe_load(settings)["strict"] is True
