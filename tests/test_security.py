"""What is promised in SECURITY.md and has no test nearer to it: unsafe calls, names as paths, servers on loopback."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from examples.demo.endpoint import DemoEndpoint
from flows import services
from fute.errors import FuteError
from fute.load_study import load_study
from storage import catalog, listing
from storage.stamp import Stamp
from storage.store import Store
from storage.vectors import VectorStore
from tests.conftest import REPOSITORY

PRODUCT = [f for folder in ("fute", "storage", "tasks", "flows") for f in sorted((REPOSITORY / folder).rglob("*.py"))]


def calls() -> Iterator[tuple[str, str, ast.Call]]:
    """Every call in the product: where, what is called, and the call."""
    for file in PRODUCT:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call):
                yield f"{file.relative_to(REPOSITORY)}:{node.lineno}", ast.unparse(node.func), node


def keywords(call: ast.Call) -> dict[str, str]:
    """Name to source text; what is passed on as mappings under "**"."""
    mappings = [ast.unparse(k.value) for k in call.keywords if k.arg is None]
    return {k.arg: ast.unparse(k.value) for k in call.keywords if k.arg} | dict.fromkeys(["**"], " ".join(mappings))


def test_nothing_runs_code_that_stands_in_data() -> None:
    forbidden = {"eval", "exec", "os.system", "os.popen", "pickle.load", "pickle.loads", "joblib.load", "torch.load",
                 "dill.load", "marshal.loads", "shelve.open", "cloudpickle.load", "cloudpickle.loads", "yaml.load",
                 "yaml.unsafe_load", "yaml.full_load", "pd.read_pickle", "pandas.read_pickle"}  # fmt: skip
    assert [(where, name) for where, name, _ in calls() if name in forbidden] == []
    shells = [where for where, name, call in calls()
              if name.startswith("subprocess.") and keywords(call).get("shell") == "True"]  # fmt: skip
    assert shells == []
    loads = [where for where, name, call in calls()
             if name in ("np.load", "numpy.load") and keywords(call).get("allow_pickle") != "False"]  # fmt: skip
    assert loads == []
    named = (ast.unparse(node) for file in PRODUCT for node in ast.walk(ast.parse(file.read_text()))
             if isinstance(node, ast.Attribute))  # fmt: skip
    loaders = {name for name in named if name.startswith("yaml.") and "oader" in name}
    assert loaders == {"yaml.SafeLoader"}


def test_every_pretrained_model_is_loaded_from_safetensors_without_code_of_its_repository() -> None:
    found = [(where, name, keywords(call)) for where, name, call in calls() if name.endswith(".from_pretrained")]
    weights = [(w, k) for w, name, k in found if not name.startswith(("AutoTokenizer.", "AutoConfig."))]
    # One door, which looks through the folder first; tests/fute/test_model_files.py tries what it refuses.
    assert [where.partition(":")[0] for where, _ in weights] == ["fute/surrogate/pretrained.py"]
    assert [where for where, given in weights if given.get("use_safetensors") != "True"] == []
    # Loading options turn remote code off; a call without them would not.
    assert [where for where, _, given in found if "loading_options" not in given.get("**", "")] == []
    options = [ast.unparse(node) for file in PRODUCT for node in ast.walk(ast.parse(file.read_text()))
               if isinstance(node, ast.Dict) and "trust_remote_code" in ast.unparse(node)]  # fmt: skip
    assert options
    assert [text for text in options if "'trust_remote_code': False" not in text] == []


@pytest.mark.parametrize(
    "change",
    [
        {"name": "../outside"},
        {"datasets": [{"id": "../../outside", "data": {"files": "d.csv"}}]},
        {"models": [{"kind": "python", "id": "/etc/outside", "entry_point": "m:f"}]},
        {"models": [{"kind": "python", "id": "m", "entry_point": "../m:f"}]},
        {"pool": {"sources": [{"data": {"files": "p.csv"}}], "reuse": "../../outside"}},
        {"pool": {"sources": [{"data": {"files": "p.csv"}}], "reuse": "/etc/outside"}},
    ],
)
def test_a_name_that_is_a_path_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    study = {"name": "s", "pool": {"sources": [{"data": {"files": "p.csv"}}]}, **change}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    with pytest.raises(FuteError, match="is not valid"):
        load_study(tmp_path / "study.yaml")


@pytest.mark.parametrize("name", ["a/../../../outside", "../../outside", "/etc/outside"])
def test_no_name_leads_out_of_the_store(tmp_path: Path, name: str) -> None:
    store = Store(tmp_path / "store")
    for path in (
        store.dataset_folder(name),
        store.model_folder(name),
        store.weights_folder(name),
        store.pool_path(name),
        store.outputs_path(name, name),
        store.evaluations_path(name),
        VectorStore(store).path(name, "model", name),
    ):
        assert path.resolve().is_relative_to(store.root), path


def test_a_link_out_of_the_store_is_replaced_and_never_written_through(tmp_path: Path) -> None:
    outside = tmp_path / "outside.html"
    outside.write_text("theirs")
    store = Store(tmp_path / "store")
    (store.root / "reports").mkdir(parents=True)
    (store.root / "reports" / "page.html").symlink_to(outside)
    written = store.put_report("page.html", "ours")
    assert outside.read_text() == "theirs"
    assert written.read_text() == "ours"
    assert not written.is_symlink()


def test_sql_reads_neither_outside_the_store_nor_through_a_link_and_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "secret.csv").write_text("a\n1\n")
    root = tmp_path / "store"
    Store(root).put_report("page.html", "ours")
    (root / "link.csv").symlink_to(tmp_path / "secret.csv")
    before = sorted(root.rglob("*"))
    for sql in (
        "SELECT * FROM read_csv('{root}/../secret.csv')",
        "SELECT * FROM read_csv('{root}/link.csv')",
        "SELECT * FROM read_text('/etc/hostname')",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM 'https://127.0.0.1:9/x.parquet'",
        "COPY (SELECT 1) TO '{root}/x.csv'",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO '{root}/x.csv'",
        "explain (format json) COPY (SELECT 1) TO '{root}/x.csv'",
        "EXPLAIN /* x */ ANALYZE COPY (SELECT 1) TO '{root}/x.csv'",
        "/* x */ EXPLAIN ANALYZE COPY (SELECT 1) TO '{root}/x.csv'",
        "EXPLAIN ANALYZE DROP VIEW runs",
        "SET enable_external_access = true",
        "INSTALL httpfs",
        "ATTACH '{root}/x.db'",
        "PRAGMA database_list",
    ):
        with pytest.raises(FuteError):
            catalog.query(root, sql.format(root=root))
    assert sorted(root.rglob("*")) == before
    assert catalog.query(root, "EXPLAIN ANALYZE SELECT count(*) FROM runs").rows
    assert catalog.query(root, "explain SELECT 1").rows


def test_what_a_user_names_is_bound_and_never_part_of_a_query(tmp_path: Path) -> None:
    root = tmp_path / "it's a 'store'"
    Store(root).put_prompt({"id": "x' OR '1'='1"}, Stamp())
    assert list(listing.show(root, "x' OR '1'='1")) == ["prompt"]
    for subject in ("' OR 1=1 --", "x'; DROP VIEW runs; --"):
        with pytest.raises(FuteError, match="nothing named"):
            listing.show(root, subject)
    with pytest.raises(FuteError, match="no view"):
        listing.rows(root, "runs; DROP VIEW runs")


def test_every_server_that_fute_starts_binds_to_loopback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []

    class Recorded:
        def __init__(self, arguments: tuple[str, ...], **_: Any) -> None:
            started.append(list(arguments))

        def poll(self) -> None:
            return None

    monkeypatch.setattr(services, "subprocess", type("s", (), {"Popen": Recorded, "run": subprocess.run}))
    for name in ("once", "wait_until_up", "end"):
        monkeypatch.setattr(services, name, lambda *_: None)
    with services.services(REPOSITORY, tmp_path, services.Ports(0, 0, 0)):
        pass
    servers = [arguments for arguments in started if "worker" not in arguments]
    assert [Path(arguments[0]).name for arguments in servers] == ["prefect", "mlflow", Path(sys.executable).name]
    for arguments in servers:
        assert arguments[arguments.index("--host") + 1] == "127.0.0.1"
    with DemoEndpoint(lambda *_: [("a", 1.0)]) as endpoint:
        assert endpoint.base_url.startswith("http://127.0.0.1:")
    wildcards = [str(f) for f in PRODUCT if "0.0.0.0" in f.read_text()]
    assert wildcards == []
