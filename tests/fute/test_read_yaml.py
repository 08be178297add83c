"""YAML beyond what JSON holds: one message with the line, in bounded time, whatever a file holds."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from fute.errors import ConfigError
from fute.load_study import load_study
from fute.read_yaml import MOST_BYTES, read_yaml

BOMB = "\n".join(["a0: &a0 [x,x,x,x,x,x,x,x,x,x]", *(f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]"
                                                      for i in range(1, 12))])  # fmt: skip
MERGES = "\n".join(["a0: &a0 {k: 1}", *(f"a{i}: &a{i} {{<<: [{','.join([f'*a{i - 1}'] * 10)}]}}"
                                         for i in range(1, 12))])  # fmt: skip
REFUSED = [
    ("a: &a [1, *a]", "line 1: an alias stands within what it is an alias of"),
    ("b: 1\na: &a {x: {y: *a}}", "line 2: an alias stands within"),
    ("a: &a {<<: *a, x: 1}", "an alias stands within"),
    ("a: 2024-01-01", "line 1: this is a date (2024-01-01) and not text; put it in quotes"),
    ("a: 2024-13-45", "this is a date"),
    ("a: 2024-01-01 10:00:00", "this is a date"),
    ("a: .nan", "line 1: .nan is no number that is stored; give a finite one, or null"),
    ("a: [1, -.INF]", "-.INF is no number that is stored"),
    ("a: 1.0e+999", "1.0e+999 is no number that is stored"),
    ('a: "x\\0"', "a text holds a NUL character"),
    ('"x\\0": a', "a text holds a NUL character"),
    ('a: "\\ud800"', "half of a character"),
    ("a: x\0", "character #x0000 (at 4) is not allowed"),
    ("a: \x1b[31m", "character #x001b"),
    ("a: " + "9" * 5000, "a whole number of 5000 characters is too large; put it in quotes"),
    ("a: -" + "9" * 19, "a whole number of 20 characters is too large"),
    ("a: 0x" + "f" * 1000, "is too large"),
    ("a: " + ":".join(["1"] * 50_000), "is too large"),
    (BOMB, "more than 200,000 values, each alias written out"),
    (MERGES, "more than 200,000 values"),
    ("a: " + "[" * 100_000, "more than 60 deep in each other"),
    ("- " * 10_000 + "a", "more than 60 deep"),
    ("a: " + "{b: " * 3000, "more than 60 deep"),
    ("a: !!set {x}", "this is a set"),
    ("a: !!binary aGk=", "this is binary data"),
    ("a: !!bool maybe", "a value is not what its tag says"),
    ("a: !!int x", "a value is not what its tag says"),
    ("? [a]\n: 1", "a key is a list or a mapping"),
    ("a: 1\nb: {c: 1, c: 2}", "line 2: 'c' stands twice in one mapping (first in line 2)"),
    ("a: !mine 1", "could not determine a constructor for the tag"),
    ("a: 1\n--- \nb: 2", "but found another document"),
    ("x" * (MOST_BYTES + 1), "is larger than 8 MiB"),
]


@pytest.mark.parametrize(("text", "says"), REFUSED, ids=[text[:16].encode().hex() for text, _ in REFUSED])
def test_what_json_cannot_hold_is_one_message_in_bounded_time(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "study.yaml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    began = time.perf_counter()
    with pytest.raises(ConfigError) as told:
        load_study(file)
    assert says in str(told.value)
    assert "\n" not in str(told.value)
    assert len(str(told.value)) < 300 + len(str(file))
    assert time.perf_counter() - began < 5


def test_what_is_no_file_of_text_is_told(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"a: \xff")
    for path in (tmp_path, tmp_path / "latin", Path("/dev/zero"), tmp_path / "x\0y", tmp_path / ("x" * 300)):
        with pytest.raises(ConfigError, match="cannot be read|is larger than"):
            read_yaml(path, "study file")


def test_ordinary_yaml_is_read_as_ever(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(
        "defaults: &d {max_rows: 100, deep: [1, 2.5, null, true]}\n"
        "datasets:\n  - {<<: *d, id: a}\n  - {<<: *d, id: b, max_rows: 7}\n"
        f"text: |\n  {{{{text}}}}\n  a: b\nlarge: {2**63 - 1}\nsmall: 1e-5\nfloat: 1.0e-5\nempty:\n"
    )
    found = read_yaml(file, "study file")
    assert found["datasets"] == [
        {"max_rows": 100, "deep": [1, 2.5, None, True], "id": "a"},
        {"max_rows": 7, "deep": [1, 2.5, None, True], "id": "b"},
    ]
    assert (found["large"], found["float"], found["empty"]) == (2**63 - 1, 1e-5, None)
    file.write_text("")
    assert read_yaml(file, "study file") is None
