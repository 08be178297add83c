"""Studies whose store is a bucket of a real S3 server: several machines, a budget's end, a network that goes away."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from flows.cli import main
from flows.doctor import examine
from flows.embed import embed
from flows.maintain import maintain
from fute.errors import StoreError
from storage import catalog, remote
from storage.parts import singles_of
from storage.stamp import Stamp
from storage.store import Store
from tests.flows.embeddings import Vectors, assert_same, vectors
from tests.flows.small_study import write_small_study
from tests.flows.test_prompted_study import CANARY, answer, everything_written
from tests.flows.test_prompted_study import write_study as write_prompted
from tests.llm_server import LlmServer
from tests.s3_server import ADMIN, READER, S3Server, s3_server
from tests.storage.small_store import FOLDER, fingerprints, fold, write_into

pytestmark = pytest.mark.slow

Machine = Callable[[str], Path]

BUCKET = "team"


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3") / "server") as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        patch.setenv("AWS_MAX_ATTEMPTS", "1")  # a line that is cut is not waited for
        import s3fs

        s3fs.S3FileSystem().mkdir(BUCKET)
        yield server


@pytest.fixture
def machine(s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Go on as another machine: with another folder for mirrors, which is returned."""

    def turn_to(name: str) -> Path:
        monkeypatch.setenv("FUTE_MIRROR", str(tmp_path / name))
        return tmp_path / name

    return turn_to


def stored_in(study: Path, address: str) -> Path:
    written = yaml.safe_load(study.read_text())
    study.write_text(yaml.safe_dump({**written, "store": address}, sort_keys=False))
    return study


def pulled(address: str) -> Vectors:
    return vectors(Store(address).pull().root)


def test_a_budget_ends_on_one_machine_and_another_goes_on_without_asking_twice(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FUTE_TEST_KEY", CANARY)
    address = f"s3://{BUCKET}/prompted"
    with LlmServer(answer) as server:
        study = stored_in(write_prompted(tmp_path / "study", server.base_url, budget={"max_calls": 70}), address)
        first = machine("first")
        assert embed(str(study), return_state=True).name == "CompletedWithFailures"
        assert server.n_requests == 70
        second = machine("second")
        assert embed(str(study), return_state=True).is_completed()
        assert server.n_requests == 120
    asked = "SELECT count(*) AS n, count(DISTINCT key) AS keys FROM responses"
    machine("third")
    result = CliRunner().invoke(main, ["sql", "--csv", "--store", address, asked])
    assert result.output.splitlines() == ["n,keys", "120,120"]
    # Secrets of the bucket and of the endpoint are on neither machine nor in the bucket.
    everything = b"".join(everything_written(tmp_path / name) for name in ("first", "second", "third", "study"))
    assert not [s for s in (CANARY, ADMIN["AWS_SECRET_ACCESS_KEY"]) if s.encode() in everything]
    assert first.exists()
    assert second.exists()


def test_a_network_that_goes_away_loses_nothing_and_the_next_run_goes_on(
    s3: S3Server, machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FUTE_TEST_CALLS", str(tmp_path / "calls.txt"))
    address = f"s3://{BUCKET}/cut"
    models = [{"kind": "python", "id": "counted", "entry_point": "small_models:counted"},
              {"kind": "trained", "dataset": "*", "recipe": "tfidf"}]  # fmt: skip
    study = stored_in(
        write_small_study(tmp_path / "study", methods=[{"method": "crosscov", "components": 16}], models=models),
        address,
    )
    machine("first")
    push = remote.Mirror.push

    def cut_before_embeddings(self: remote.Mirror, *folded: Any) -> None:
        if list(self.root.glob("embeddings/*/*/*")):
            s3.line.cut()
        push(self, *folded)

    with monkeypatch.context() as patch:
        patch.setattr(remote.Mirror, "push", cut_before_embeddings)
        with pytest.raises(StoreError, match="cannot be uploaded; it stays in .*, and the next run sends it"):
            embed(str(study))
    made = catalog.query(Store(address).root, "SELECT count(*) FROM embeddings").rows[0][0]
    assert made == 7  # though none could be uploaded
    with pytest.raises(StoreError, match="cannot be read"):
        embed(str(study))  # still away: told at once
    s3.line.mend()
    assert embed(str(study), return_state=True).is_completed()
    assert (tmp_path / "calls.txt").read_text().splitlines() == ["60"]
    here = pulled(address)
    machine("second")
    assert_same(pulled(address), here)
    assert len(here) == 7
    assert embed(str(study), return_state=True).is_completed()
    assert (tmp_path / "calls.txt").read_text().splitlines() == ["60"]


def test_dask_workers_with_mirrors_of_their_own_hand_in_what_they_made_and_paid_for(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("prefect_dask", reason="pip install 'fute[dask]'")
    from distributed import LocalCluster

    monkeypatch.setenv("FUTE_TEST_KEY", CANARY)
    address = f"s3://{BUCKET}/scattered"
    with LlmServer(answer) as server:
        study = stored_in(write_prompted(tmp_path / "study", server.base_url), address)
        machine("flow")
        monkeypatch.setenv("FUTE_TASK_RUNNER", "dask")
        # Workers as on other machines: with a mirror that is not the flow's.
        with LocalCluster(n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0",
                          env={"FUTE_MIRROR": str(tmp_path / "workers")}) as cluster:  # fmt: skip
            monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", cluster.scheduler_address)
            assert embed(str(study), return_state=True).is_completed()
        assert server.n_requests == 120
        assert list((tmp_path / "workers").glob("*/responses/*.parquet"))
        made = pulled(address)
        monkeypatch.setenv("FUTE_TASK_RUNNER", "threads")
        machine("third")
        assert embed(str(study), return_state=True).is_completed()
        assert server.n_requests == 120
    assert len(made) == 5
    assert pulled(address).keys() == made.keys()


def test_machines_that_fold_one_bucket_at_once_lose_nothing_and_show_nothing_twice(machine: Machine) -> None:
    address = f"s3://{BUCKET}/folded"
    stores = []
    for name in ("first", "second"):
        machine(name)
        stores.append(Store(address))
    write_into(stores[0], range(20)).push()
    stores[1].pull()
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(fold, stores))
    assert [folded.files for folded in done] == [20, 20]
    write_into(stores[1], range(20, 22)).push()
    machine("third")
    third = Store(address).pull()
    assert maintain(store=address, min_files=2, return_state=True).is_completed()
    for store in (*stores, third):
        assert fingerprints(store.pull().root) == [f"e{i:04d}" for i in range(22)]
        assert singles_of(store.root / FOLDER) == []


def test_what_the_bucket_refuses_is_told_with_what_to_do(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine("unlucky")
    with pytest.raises(StoreError, match="no such bucket or file: create the bucket, or mend the address"):
        Store("s3://no-such-bucket/store").pull()
    for name, value in READER.items():
        monkeypatch.setenv(name, value)
    reader = Store(f"s3://{BUCKET}/refused").pull()
    reader.put_prompt({"id": "p", "template": "x"}, Stamp())
    with pytest.raises(StoreError, match="cannot be uploaded.*no permission.*AWS_ACCESS_KEY_ID"):
        reader.push()
    machine("unluckier")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(StoreError, match="cannot be read.*no permission"):
        Store(f"s3://{BUCKET}/refused").pull()


def test_the_doctor_lists_the_bucket_and_fetches_nothing(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine("writer")
    for name in ("p", "q"):
        Store(f"s3://{BUCKET}/looked-at").put_prompt({"id": name, "template": "x"}, Stamp())
    Store(f"s3://{BUCKET}/looked-at").push()
    patient = machine("patient")

    def told(bucket: str) -> str:
        (line,) = [found.message for found in examine(None, f"s3://{bucket}") if found.check == "storage"]
        return line

    assert "/looked-at answers and has prompts; its mirror here is" in told(f"{BUCKET}/looked-at")
    assert "answers and has no store yet" in told(f"{BUCKET}/another")
    assert told("no-such-bucket/store").endswith("cannot be opened (FileNotFoundError)")
    assert not patient.exists()
    machine("another patient")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    assert told(f"{BUCKET}/looked-at").endswith("cannot be opened (PermissionError)")
