"""Names, texts and servers' words are data on a terminal and in JSON: shown as they are, and never obeyed."""

from __future__ import annotations

import ast
import io
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from flows import doctor, drift_results, results, run_command, select_results, transfer_results
from flows.cli import main
from flows.console import PlainFormatter, PlainTable, say
from fute.errors import StoreError
from fute.json_text import json_text
from fute.terminal import printable
from storage.store import Store, to_json
from storage.tracker import default_uri
from tasks.plan import Plan, Step
from tests.conftest import REPOSITORY

NASTY = "a[b]c[/] [red]x[/red] :smile: \x1b[31m\x1b]0;title\x07\r\x9b1m‮x\ud800 é 好 👩‍🚀"
SHOWN = r"a[b]c[/] [red]x[/red] :smile: \x1b[31m\x1b]0;title\x07\x0d\x9b1m\u202ex\ud800 é 好 👩‍🚀"


def test_what_a_terminal_would_obey_is_shown_as_an_escape() -> None:
    assert printable(NASTY) == SHOWN
    assert printable("two\nlines\tand a tab") == "two\nlines\tand a tab"
    assert printable(ValueError("\x00")) == r"\x00"
    for code in [*range(0x20), *range(0x7F, 0xA0)]:
        assert printable(chr(code)) == (chr(code) if chr(code) in "\n\t" else f"\\x{code:02x}")
    printable("".join(map(chr, range(0x11000)))).encode()  # whatever it was, it can be written


@pytest.mark.parametrize("terminal", [True, False])
def test_lines_titles_headers_and_cells_are_shown_as_they_are(terminal: bool) -> None:
    out = io.StringIO()
    console = Console(file=out, width=200, force_terminal=terminal, color_system=None)
    say(console, f"store  /{NASTY}")
    table = PlainTable("id", NASTY, title=NASTY)
    table.add_row(NASTY, 3, None)
    console.print(table)
    assert out.getvalue().count(SHOWN) == 4
    assert "\x1b]" not in out.getvalue()


def test_a_long_path_is_not_broken_into_lines() -> None:
    out = io.StringIO()
    path = "/a [b]/" * 60
    say(Console(file=out, width=80), path)
    assert out.getvalue() == path + "\n"


def test_every_result_is_printed_by_these_functions() -> None:
    """rich reads markup in what it is given as text; so flows give it none, and build no table or text of their own."""
    modules = (doctor, drift_results, results, run_command, select_results, transfer_results)
    for module in modules:
        tree = ast.parse(Path(str(module.__file__)).read_text())
        names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)
                 and str(node.module).startswith("rich") for alias in node.names}  # fmt: skip
        assert names <= {"Console"}, module
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("console.print", "print"):
                assert isinstance(node.args[0], ast.Name | ast.Call), ast.unparse(node)


def test_plans_findings_logs_and_errors_are_shown_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    plan = Plan(steps=[Step(stage="embed", subject=NASTY, state="to do", calls=None)])
    run_command.print_plan(NASTY, plan, as_json=False)
    assert capsys.readouterr().out.count(SHOWN) == 2
    run_command.print_plan("s", plan, as_json=True)
    printed = capsys.readouterr().out
    assert printed.isascii()
    assert json.loads(printed)[0]["subject"] == NASTY
    lines: list[str] = []
    doctor.print_findings([doctor.Finding("store", "problem", NASTY, NASTY)], lines.append)
    assert [SHOWN in line for line in lines] == [True, True, False]
    record = logging.LogRecord("fute", logging.INFO, "", 1, "%s says so", (NASTY,), None)
    assert PlainFormatter("%(message)s").format(record) == f"{SHOWN} says so"


def test_an_error_that_quotes_a_file_is_no_command_to_the_terminal(tmp_path: Path) -> None:
    from click.testing import CliRunner

    study = tmp_path / "study.yaml"
    study.write_text('name: "\\e]0;x\\a"\npool: {sources: [{data: {files: p.csv}}]}\n')
    for name in (study, tmp_path / "no\x1b[31m.yaml"):
        told = CliRunner().invoke(main, ["check", str(name)])
        assert told.exit_code == 1
        assert "\x1b" not in told.output
        assert "error: " in told.output


@pytest.mark.parametrize("share", ["nan", "inf", "-1", "0", "1.5"])
def test_a_share_that_is_none_is_told_before_anything_is_read(share: str) -> None:
    from click.testing import CliRunner

    told = CliRunner().invoke(main, ["select", "prompts", "no.yaml", "--target", "t", "--share", share])
    assert told.exit_code == 2
    assert "is no share; give more than 0 and at most 1" in told.output


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), np.float32("nan"), np.float64("inf")])
def test_json_holds_no_number_that_json_does_not_have(value: Any) -> None:
    for text in (json_text({"a": [value, (value, 1)]}), to_json({"a": [value, (value, 1)]})):
        assert json.loads(text, parse_constant=pytest.fail) == {"a": [None, [None, 1]]}
    assert json.loads(json_text({"n": np.int64(3), "x": np.zeros(2), "p": Path("/a")})) == {
        "n": 3, "x": [0.0, 0.0], "p": "/a"}  # fmt: skip


def test_json_can_be_written_whatever_a_text_holds() -> None:
    for ascii_only in (True, False):
        text = json_text({"text": NASTY}, ascii=ascii_only)
        assert json.loads(text.encode()) == {"text": NASTY}
    assert json_text(NASTY, ascii=True).isascii()


def test_every_json_that_the_product_writes_is_json() -> None:
    """json.dumps writes NaN, which few readers take: it is called with allow_nan=False, or json_text is."""
    checked_before = {
        "fute/data/declared_names.py", "fute/data/reading.py",  # read by fute
        "fute/llm/server_words.py",  # words
        "fute/data/ingest.py", "fute/data/snapshot.py", "storage/answer_rows.py", "tasks/layouts.py",  # read by fute
        "fute/methods/row_order.py", "fute/train/tfidf.py", "storage/schema_version.py", "tasks/costs.py",  # texts
        "examples/demo/endpoint.py", "flows/sql_cli.py", "flows/cli.py", "storage/remote.py",  # the last read by fute
    }  # fmt: skip
    found = {
        file.relative_to(REPOSITORY).as_posix()
        for folder in ("fute", "storage", "tasks", "flows", "examples")
        for file in (REPOSITORY / folder).rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("json.dump", "json.dumps")
        and not any(k.arg == "allow_nan" and ast.unparse(k.value) == "False" for k in node.keywords)
    }
    assert found <= checked_before


def test_a_store_whose_path_ends_a_database_address_is_refused(tmp_path: Path) -> None:
    assert default_uri(tmp_path / "a#b%20c [d]") == f"sqlite:///{(tmp_path / 'a#b%20c [d]' / 'mlflow.db').resolve()}"
    with pytest.raises(StoreError, match="ends the path in its address; rename the folder"):
        default_uri(Store(tmp_path / "what?").root)
