"""docs/sql.md: every query is run and every answer compared; every view, column and macro is there.

FUTE_WRITE_DOCS=1 pytest tests/test_docs_sql.py writes the answers into the page.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

import pytest

from storage import catalog
from storage.store import Store
from storage.views import COMMENTS, MACRO_NAMES
from tests.conftest import REPOSITORY
from tests.docs_store import write_docs_store

PAGE = REPOSITORY / "docs" / "sql.md"
EXAMPLE = re.compile(r"```sql\n(?P<query>.*?)```\n\n```text\n(?P<answer>.*?)```", re.DOTALL)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return write_docs_store(tmp_path_factory.mktemp("docs") / "store")


def text_table(answer: catalog.Answer) -> str:
    """The answer as the page shows it."""
    rows = [[cell(value) for value in row] for row in answer.rows]
    widths = [max(map(len, column)) for column in zip(answer.columns, *rows, strict=True)]
    lines = [answer.columns, ["-" * width for width in widths], *rows]
    return "".join(" | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() + "\n" for line in lines)


def cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return f"[{', '.join(cell(v) for v in value)}]"
    return str(value).replace("\n", "\\n")


def sections(page: str) -> Iterator[tuple[str, str]]:
    """Each `### name` with its text."""
    for part in re.split(r"^### ", page, flags=re.MULTILINE)[1:]:
        name, _, text = part.partition("\n")
        yield name.strip().strip("`"), re.split(r"^## ", text, flags=re.MULTILINE)[0]


def test_every_query_gives_the_answer_that_follows_it(store: Store) -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page.count("```sql\n") == len(EXAMPLE.findall(page)), "a query without an answer after it"

    with catalog.Catalog(store.root) as opened:

        def answered(match: re.Match[str]) -> str:
            return f"```sql\n{match['query']}```\n\n```text\n{text_table(opened.query(match['query']))}```"

        true = EXAMPLE.sub(answered, page)
    if os.environ.get("FUTE_WRITE_DOCS"):
        PAGE.write_text(true, encoding="utf-8")
        return
    assert page == true


def test_every_view_and_column_is_documented_with_its_type_and_an_example(store: Store) -> None:
    documented = dict(sections(PAGE.read_text(encoding="utf-8")))
    with catalog.Catalog(store.root) as opened:
        for view in COMMENTS:
            assert view in documented, view
            told = {
                tuple(cell.strip().strip("`") for cell in line.split("|")[1:3])
                for line in documented[view].splitlines()
                if line.startswith("| `")
            }
            columns = opened.query(f"SELECT column_name, column_type FROM (DESCRIBE {view})").rows
            stamped = {name for name, _ in columns} >= STAMP
            assert ("and the stamp" in documented[view]) == stamped, view
            short = {(name, TYPES.get(kind, kind)) for name, kind in columns if not (stamped and name in STAMP)}
            assert told == short, view
            assert EXAMPLE.search(documented[view]), view


STAMP = {"run_id", "flow_run_id", "git_commit", "created_at"}
TYPES = {"TIMESTAMP WITH TIME ZONE": "TIMESTAMPTZ"}


def test_every_macro_is_documented_with_an_example() -> None:
    documented = dict(sections(PAGE.read_text(encoding="utf-8")))
    for signature in MACRO_NAMES:
        name = signature.partition("(")[0]
        assert any(title.startswith(f"{name}(") and EXAMPLE.search(text) for title, text in documented.items()), name


def test_an_answer_is_shown_as_a_table(store: Store) -> None:
    answer = catalog.query(store.root, "SELECT id, score FROM models WHERE id = 'tfidf/reviews'")
    assert text_table(answer) == "id            | score\n------------- | -----\ntfidf/reviews | 0.83\n"
