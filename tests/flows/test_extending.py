"""docs/extend.md does what it says: its files are written beside a study, and the study is run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from flows.pipeline import pipeline
from fute.errors import ConfigError, FuteError, MethodError, ModelError
from fute.llm.providers import PROVIDERS, Provider
from fute.methods.python_config import PythonMethodConfig
from fute.methods.python_method import PythonMethod
from fute.space import space_id
from fute.types import Dataset, Outputs, Pool, Split, TextTable
from storage import catalog
from tests.flows.small_study import write_small_study

pytestmark = pytest.mark.slow

PAGE = Path(__file__).parents[2] / "docs" / "extend.md"
BLOCKS: list[tuple[str, str]] = re.findall(
    r"^```\w+ ([^\n]+)\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL
)
FILES = {title: text for title, text in BLOCKS if title.startswith("own_")}
SETTINGS: dict[str, Any] = {}
for title, text in BLOCKS:
    if title == "in the study":
        SETTINGS |= yaml.safe_load(text)
(PROVIDER_LINE,) = [text for title, text in BLOCKS if title == "in fute/llm/providers.py"]

TABLE = TextTable([f"text {i}" for i in range(6)])
POOL = Pool(TABLE, ["made up"] * 6)


@pytest.fixture
def beside_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name, source in FILES.items():
        (tmp_path / name).write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))  # as an installed provider would be
    before = dict(PROVIDERS)
    exec(PROVIDER_LINE, {"PROVIDERS": PROVIDERS, "Provider": Provider})
    yield tmp_path
    PROVIDERS.clear()
    PROVIDERS.update(before)


def test_a_method_a_model_rows_and_a_provider_of_ones_own_run_in_one_study(beside_study: Path) -> None:
    assert set(FILES) == {"own_method.py", "own_model.py", "own_rows.py", "own_provider.py"}
    study = write_small_study(
        beside_study,
        methods=[{**m, "components": 16} if m["method"] == "crosscov" else m for m in SETTINGS["methods"]],
        models=[*SETTINGS["models"], {"kind": "prompt", "id": "llm", "prompt": "vowel", "endpoint": "first"}],
        endpoints=SETTINGS["endpoints"],
        prompts=[{"id": "vowel", "template": "Begins with a vowel?\n{{text}}",
                  "verbalizer": {"vowel": ["yes"], "consonant": ["no"]}}],
        datasets=[
            *SETTINGS["datasets"],
            {"id": "asks", "data": {"files": {"train": "asks-train.parquet", "test": "asks-test.parquet"}}},
            {"id": "mood", "data": {"files": {"train": "mood-train.parquet", "test": "mood-test.parquet"}}},
        ],
        tracking={"enabled": False},
    )  # fmt: skip
    state = pipeline(str(study), return_state=True)
    assert state.name == "Completed", state.message
    store = beside_study / "store"
    rows = catalog.query(store, "SELECT method, subject, vector FROM embeddings").rows
    assert {(method, subject) for method, subject, _ in rows} == {
        (method, subject) for method in ("crosscov", "python") for subject in ("tickets", "asks", "mood", "rule", "llm")
    }
    own = {subject: np.array(vector) for method, subject, vector in rows if method == "python"}
    assert len({len(vector) for vector in own.values()}) == 1
    assert all(np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-5) for vector in own.values())
    answers = catalog.query(store, "SELECT DISTINCT answer FROM responses ORDER BY answer").rows
    assert [answer for (answer,) in answers] == ["no", "yes"]
    ranked = catalog.query(store, "SELECT count(*) FROM neighbors n JOIN spaces USING (space) WHERE method = 'python'")
    assert ranked.rows[0][0] > 0


def embedder(folder: Path, source: str, **kwargs: Any) -> PythonMethod:
    (folder / "mine.py").write_text(source, encoding="utf-8")
    config = PythonMethodConfig(entry_point="mine:make", kwargs=kwargs)
    return PythonMethod(config, folder, surrogate=None, features=lambda table: np.eye(len(table)), pool=POOL, seed=3)


GIVES = """
class Own:
    def __init__(self, gives): self.gives = gives
    def dataset(self, dataset): return eval(self.gives)
    def model(self, outputs): return eval(self.gives)
def make(surrogate, features, pool, seed, gives="[3, 4]"): return Own(gives)
"""


def test_a_vector_is_scaled_and_an_unusable_one_is_refused_with_its_reason(tmp_path: Path) -> None:
    dataset = Dataset("d", "classification", {"train": Split(TABLE, np.array([0, 1] * 3))}, "x", ("a", "b"))
    np.testing.assert_allclose(embedder(tmp_path, GIVES).dataset(dataset).vector, [0.6, 0.8], atol=1e-7)
    outputs = Outputs("probabilities", np.full((6, 2), 0.5, np.float32))
    for gives, error, message in (
        ("[[1, 2]]", MethodError, r"mine:make: model\(\) gave an array of shape \(1, 2\); give one row of numbers"),
        ("[1, float('nan')]", MethodError, "gave NaN or infinity"),
        ("[0, 0]", MethodError, "gave zeros, which have no direction"),
        ("1 / 0", ModelError, r"mine:make: its model\(\) raised ZeroDivisionError"),
        ("['a']", ModelError, r"its model\(\) raised ValueError"),
    ):
        with pytest.raises(error, match=message):
            embedder(tmp_path, GIVES, gives=gives).model(outputs)
    good, bad = embedder(tmp_path, GIVES), embedder(tmp_path, GIVES, gives="[0]")
    assert not isinstance(good.models([outputs])[0], FuteError)
    assert isinstance(bad.models([outputs])[0], MethodError)


def test_what_makes_no_embedder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MethodError, match="returned int, which has no method dataset and no model"):
        embedder(tmp_path, "def make(**given): return 7\n")
    with pytest.raises(ModelError, match=r"mine:make: make\(surrogate\) cannot be called with"):
        embedder(tmp_path, "def make(surrogate): return 7\n")
    with pytest.raises(ConfigError, match="has no 'make'"):
        embedder(tmp_path, "made = 1\n")


def test_a_space_is_named_by_the_code_of_its_method(tmp_path: Path) -> None:
    config = PythonMethodConfig(entry_point="mine:make")
    (tmp_path / "mine.py").write_text(GIVES)
    first = space_id({}, config, "pool", 0, tmp_path)
    assert first == space_id({}, config, "pool", 0, tmp_path)
    assert first != space_id({}, PythonMethodConfig(entry_point="mine:make", revision="2"), "pool", 0, tmp_path)
    (tmp_path / "mine.py").write_text(GIVES + "\n# edited\n")
    assert first != space_id({}, config, "pool", 0, tmp_path)
    with pytest.raises(ConfigError, match="there is no module mine"):
        space_id({}, config, "pool", 0, tmp_path / "elsewhere")
