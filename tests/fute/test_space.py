from __future__ import annotations

from typing import Any

import pytest

from fute.config import Method
from fute.errors import MethodError
from fute.methods.crosscov.config import CrosscovConfig
from fute.methods.outputs.config import OutputsConfig
from fute.methods.taskemb.config import TaskembConfig
from fute.methods.tupate.config import TupateConfig
from fute.space import METHOD_VERSIONS, embedding_id, open_space, space_id
from fute.types import Pool, TextTable

METHODS: list[Method] = [CrosscovConfig(), TupateConfig(), TaskembConfig(), OutputsConfig()]


def test_every_part_of_a_space_gives_it_another_id() -> None:
    spaces = [
        space_id(surrogate, method, pool, seed)
        for surrogate, pool, seed in (({"a": 1}, "p", 0), ({"a": 2}, "p", 0), ({"a": 1}, "q", 0), ({"a": 1}, "p", 1))
        for method in METHODS
    ]
    assert len(set(spaces)) == 4 * len(METHODS)
    assert space_id({"a": 1}, METHODS[0], "p", 0) == spaces[0]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.method)
def test_another_version_of_a_method_makes_another_space_of_it_alone(
    method: Method, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = [space_id({}, each, "pool", 0) for each in METHODS]
    monkeypatch.setitem(METHOD_VERSIONS, method.method, METHOD_VERSIONS[method.method] + 1)
    after = [space_id({}, each, "pool", 0) for each in METHODS]
    changed = [each.method for each, a, b in zip(METHODS, before, after, strict=True) if a != b]
    assert changed == [method.method]


def test_every_part_of_an_embedding_gives_it_another_id() -> None:
    ids = [
        embedding_id("s", "dataset", "a", "f"), embedding_id("t", "dataset", "a", "f"),
        embedding_id("s", "model", "a", "f"), embedding_id("s", "dataset", "b", "f"),
        embedding_id("s", "dataset", "a", "g"),
    ]  # fmt: skip
    assert len(set(ids)) == 5


def test_a_method_that_is_none_is_refused() -> None:
    nothing: Any = lambda *_: None  # noqa: E731
    wrong: Any = "bag of words"
    with pytest.raises(MethodError, match="no method .bag of words.; there are crosscov, tupate, taskemb, outputs, py"):
        open_space(wrong, nothing, nothing, Pool(TextTable(["a"]), ["x"]), 0)
