"""The store: Parquet files under one folder, found by fingerprint, never changed once written.

datasets/<ref>/{card,train,validation,test}.parquet     ref = id@fingerprint
pools/<pool>.parquet, pools/cards/<pool>.parquet
models/<ref>/card.parquet, models/<ref>/weights/        weights of what fute trained
features/<surrogate>/<table>.npy                        a cache: may be deleted at any time
outputs/<pool>/<ref>.parquet
spaces/<space>.parquet
embeddings/space=<space>/kind=<dataset|model>/<fingerprint>.parquet
layouts/<space>.npz                                     a cache too: what is shown of a space
frames/space=<space>/<version>.parquet
alignments/<alignment>.parquet
aligned/<alignment>.npz                                 a cache too: pseudo-tasks of one space in another
pseudo/<space>.npz                                      a cache too: embeddings of the pool's own tasks
neighbors/space=<space>/<ranking>.parquet, members/space=<space>/<ranking>.parquet
accuracies/<pool and surrogate>/<pairs>.parquet
drift/
evaluations/, runs/, reports/, prompts/, responses/
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fute.address import is_url
from fute.data.snapshot import dataset_from_tables, dataset_to_tables, pool_from_table, pool_to_table
from fute.errors import NotInStoreError, StoreError
from fute.fingerprint import fingerprint
from fute.json_text import json_text
from fute.types import Dataset, Features, Floats, Outputs, Pool, TextTable
from storage import schemas
from storage.files import Scratch, read_parquet, write_file, write_folder, write_parquet, write_parquet_folder
from storage.remote import mirror_at
from storage.schema_version import mark_current, require_readable
from storage.seal import opened
from storage.stamp import Stamp

SPLITS = ("train", "validation", "test")


def slug(name: str) -> str:
    """A file name for an id: ids may hold '/', and never hold '~'."""
    return name.replace("/", "~")


def to_json(value: Any) -> str:
    return json_text(value, sort_keys=True)


def card(schema: pa.Schema, row: Mapping[str, Any], stamp: Stamp) -> pa.Table:
    """One row with its stamp, as a table of the given schema; a field that the row lacks is null."""
    columns = {name: pa.array([row.get(name)], schema.field(name).type) for name in schema.names}
    columns.update(stamp.columns(1))
    return pa.table({name: columns[name] for name in schema.names}, schema=schema)


class Store:
    """One folder of artifacts. Cheap to open; nothing is created before the first write.

    Args:
        address: a folder, or a URL of object storage such as s3://bucket/prefix; then the folder is its mirror.
    """

    def __init__(self, address: str | Path) -> None:
        self.mirror = mirror_at(str(address)) if is_url(str(address)) else None
        self.root = Path(address).expanduser().resolve() if self.mirror is None else self.mirror.root
        if self.root.exists() and not self.root.is_dir():
            raise StoreError(f"store {self.root} is a file; give a folder")
        require_readable(self.root)
        self.scratch = Scratch(self.root)

    @property
    def address(self) -> str:
        """By which it is opened: its folder, or its URL."""
        return str(self.root) if self.mirror is None else self.mirror.address

    def pull(self) -> Store:
        """With what others have stored by now, where the store is a mirror of object storage; the store itself."""
        if self.mirror is not None:
            self.mirror.pull()
        return self

    def push(self, folded: Sequence[Path] = ()) -> None:
        """Hand in what was made here, where the store is a mirror of object storage.

        Args:
            folded: files whose records stand in a part by now, and that are to be deleted there.
        """
        if self.mirror is not None:
            self.mirror.push(folded)

    # ------------------------------------------------------------------------------------------------ datasets

    def dataset_folder(self, ref: str) -> Path:
        return self.root / "datasets" / slug(ref)

    def has_dataset(self, ref: str) -> bool:
        return (self.dataset_folder(ref) / "card.parquet").is_file()

    def put_dataset(self, dataset: Dataset, *, family: str | None, stamp: Stamp) -> str:
        ref = f"{dataset.id}@{dataset.fingerprint}"
        sizes = {f"n_{split}": len(dataset.splits[split]) if split in dataset.splits else None for split in SPLITS}
        row = {
            "ref": ref,
            "id": dataset.id,
            "fingerprint": dataset.fingerprint,
            "task": dataset.task,
            "family": family,
            "label_names": None if dataset.label_names is None else list(dataset.label_names),
            "provenance": to_json(dict(dataset.provenance)),
            "report": to_json(dict(dataset.report)),
            **sizes,
        }
        tables = {**dataset_to_tables(dataset), "card": card(schemas.DATASETS, row, stamp)}
        write_parquet_folder(self.scratch, self.dataset_folder(ref), tables)
        return ref

    def dataset(self, ref: str) -> Dataset:
        folder = self.dataset_folder(ref)
        if not self.has_dataset(ref):
            raise NotInStoreError(f"dataset {ref} is not in {self.root}; run the study that holds it")
        try:
            sizes = read_parquet(folder / "card.parquet").to_pylist()[0]
            tables = {s: read_parquet(folder / f"{s}.parquet") for s in SPLITS if sizes[f"n_{s}"] is not None}
        except (StoreError, FileNotFoundError) as exc:
            # A split alone is not made again: the card says that the dataset is here.
            raise StoreError(f"dataset {ref} is damaged ({exc}); delete its folder {folder} and run again") from exc
        return dataset_from_tables(tables)

    # --------------------------------------------------------------------------------------------------- pools

    def pool_path(self, pool: str) -> Path:
        return self.root / "pools" / f"{slug(pool)}.parquet"

    def put_pool(self, pool: Pool, stamp: Stamp) -> str:
        if not self.pool_path(pool.id).is_file():
            row = {
                "pool": pool.id,
                "n_rows": len(pool),
                "n_sources": len(set(pool.source_ids)),
                "n_pairs": sum(p is not None for p in pool.inputs.pairs or ()),
                "report": to_json(dict(pool.report)),
            }
            write_parquet(
                self.scratch, self.root / "pools" / "cards" / f"{pool.id}.parquet", card(schemas.POOLS, row, stamp)
            )
            write_parquet(self.scratch, self.pool_path(pool.id), pool_to_table(pool))
        return pool.id

    def pool(self, pool: str) -> Pool:
        if not self.pool_path(pool).is_file():
            raise NotInStoreError(f"pool {pool} is not in {self.root}; `fute ls pools` lists what is")
        return pool_from_table(read_parquet(self.pool_path(pool)))

    # ------------------------------------------------------------------------------------------------ features

    def cached_features(self, surrogate: str, compute: Features) -> Features:
        """`compute`, looked up in the feature cache first. A damaged cache file is computed again."""

        def features(table: TextTable) -> Floats:
            path = self.root / "features" / surrogate / f"{table.fingerprint}.npy"
            if path.is_file():
                try:
                    cached: Floats = np.load(path, allow_pickle=False)
                    if len(cached) == len(table):
                        return cached
                except (ValueError, EOFError, OSError):
                    path.unlink(missing_ok=True)
            computed = compute(table)

            def write(temporary: Path) -> None:
                with temporary.open("wb") as file:
                    np.save(file, computed, allow_pickle=False)

            write_file(self.scratch, path, write)
            return computed

        return features

    def cached_arrays(
        self, folder: str, space: str, key: str, compute: Callable[[], Mapping[str, NDArray[Any]]]
    ) -> dict[str, NDArray[Any]]:
        """`compute`, looked up in a cache first that keeps the newest of each space. A damaged file is made again.

        Args:
            folder: of the cache: layouts, or pseudo.
            key: tells these arrays from earlier ones of the space.
        """
        path = self.root / folder / f"{slug(space)}.npz"
        with suppress(OSError, ValueError, KeyError, EOFError, BadZipFile), np.load(path, allow_pickle=False) as kept:
            if kept["key"].item() == key:
                return {name: kept[name] for name in kept.files if name != "key"}
        computed = dict(compute())

        def write(temporary: Path) -> None:
            with temporary.open("wb") as file:
                np.savez(file, allow_pickle=False, key=np.array(key), **computed)

        write_file(self.scratch, path, write)
        return computed

    # -------------------------------------------------------------------------------------------------- models

    def model_folder(self, ref: str) -> Path:
        return self.root / "models" / slug(ref)

    def weights_folder(self, ref: str) -> Path:
        return self.model_folder(ref) / "weights"

    def has_model(self, ref: str, *, trained: bool = False) -> bool:
        """Whether it is here; with `trained`, whether its weights are too."""
        return (self.model_folder(ref) / "card.parquet").is_file() and (
            not trained or self.weights_folder(ref).is_dir()
        )

    def put_model(
        self, row: Mapping[str, Any], stamp: Stamp, train: Callable[[Path], Mapping[str, Any]] | None = None
    ) -> None:
        """Write a model's card; `train` fills a folder with weights first and returns more columns of the card."""
        ref = row["ref"]

        def write(folder: Path) -> None:
            extra: Mapping[str, Any] = {}
            if train is not None:
                extra = train(folder / "weights")
            table = card(schemas.MODELS, {**row, **extra}, stamp)
            write_parquet(self.scratch, folder / "card.parquet", table, folder=self.model_folder(ref))

        if not self.has_model(ref, trained=train is not None):
            if self.has_model(ref) and not self.weights_folder(ref).is_dir() and train is not None:
                # Its weights were damaged, and somebody deleted them to have them made again.
                (self.model_folder(ref) / "card.parquet").unlink(missing_ok=True)
            write_folder(self.scratch, self.model_folder(ref), write)

    def model_card(self, ref: str) -> dict[str, Any]:
        path = self.model_folder(ref) / "card.parquet"
        if not path.is_file():
            raise NotInStoreError(f"model {ref} is not in {self.root}; run the study that holds it")
        return read_parquet(path).to_pylist()[0]

    # ------------------------------------------------------------------------------------------------- outputs

    def outputs_path(self, pool: str, ref: str) -> Path:
        return self.root / "outputs" / slug(pool) / f"{slug(ref)}.parquet"

    def has_outputs(self, pool: str, ref: str) -> bool:
        return self.outputs_path(pool, ref).is_file()

    def put_outputs(self, pool: str, ref: str, outputs: Outputs, stamp: Stamp) -> None:
        n, width = outputs.values.shape
        values = np.ascontiguousarray(outputs.values, dtype=np.float32)
        label: pa.Array = pa.nulls(n, pa.string())
        if outputs.kind in ("probabilities", "labels"):
            names = outputs.label_names or tuple(str(i) for i in range(width))
            label = pa.array(names, pa.string()).take(pa.array(values.argmax(axis=1)))
        answered = np.ones(n, dtype=bool) if outputs.answered is None else outputs.answered
        offsets = pa.array(np.arange(n + 1, dtype=np.int32) * width)
        keys = outputs.answer_keys or [()] * n
        table = pa.table(
            {
                "pool": pa.repeat(pa.scalar(pool), n),
                "model": pa.repeat(pa.scalar(ref), n),
                "row": pa.array(np.arange(n, dtype=np.int32)),
                "answered": pa.array(answered),
                "label": label,
                "values": pa.ListArray.from_arrays(offsets, pa.array(values.ravel())),
                "answer_key": pa.array([of_row[-1] if of_row else None for of_row in keys], pa.string()),
                "other_keys": pa.array([list(of_row[:-1]) or None for of_row in keys], pa.list_(pa.string())),
                **stamp.columns(n),
            },
            schema=schemas.OUTPUTS,
        )
        meta = {
            "kind": outputs.kind,
            "label_names": outputs.label_names,
            "all_answered": outputs.answered is None,
            "asked": None if outputs.asked is None else np.flatnonzero(outputs.asked).tolist(),
            "details": dict(outputs.details),
        }
        table = table.replace_schema_metadata({b"fute.outputs": to_json(meta).encode()})
        write_parquet(self.scratch, self.outputs_path(pool, ref), table)

    def outputs(self, pool: str, ref: str) -> Outputs:
        path = self.outputs_path(pool, ref)
        if not path.is_file():
            raise NotInStoreError(f"no outputs of {ref} on pool {pool} in {self.root}; run the study that holds it")
        table = read_parquet(path)
        meta = json.loads(table.schema.metadata[b"fute.outputs"])
        values = table["values"].combine_chunks()
        flat = values.flatten().to_numpy(zero_copy_only=False)
        asked = meta.get("asked")  # earlier versions asked about everything
        return Outputs(
            kind=meta["kind"],
            values=flat.reshape(len(table), -1).astype(np.float32),
            label_names=None if meta["label_names"] is None else tuple(meta["label_names"]),
            answered=None if meta["all_answered"] else table["answered"].to_numpy(),
            details=meta["details"],
            asked=None if asked is None else np.isin(np.arange(len(table)), asked),
        )

    def outputs_details(self, pool: str, ref: str) -> dict[str, Any]:
        """What was counted while a model was asked (calls, tokens, refusals ...), read without its outputs; empty where
        there are none."""
        return dict(self._outputs_meta(pool, ref).get("details", {}))

    def outputs_classes(self, pool: str, ref: str) -> tuple[str, ...] | None:
        """Names of a model's classes, read without its outputs; None where they have none, or there are no outputs."""
        names = self._outputs_meta(pool, ref).get("label_names")
        return None if names is None else tuple(names)

    def _outputs_meta(self, pool: str, ref: str) -> dict[str, Any]:
        path = self.outputs_path(pool, ref)
        if not path.is_file():
            return {}
        with opened(path) as file:
            found: dict[str, Any] = json.loads(file.schema_arrow.metadata[b"fute.outputs"])
            return found

    # ------------------------------------------------------------------------------- prompts, evaluations and runs

    def _prompt_path(self, row: Mapping[str, Any]) -> Path:
        named = [
            name
            for name in schemas.PROMPTS.names
            if name not in ("fingerprint", *(field.name for field in schemas.STAMP))
        ]
        return self.root / "prompts" / f"{fingerprint(**{name: row.get(name) for name in named})}.parquet"

    def has_prompt(self, row: Mapping[str, Any]) -> bool:
        return self._prompt_path(row).is_file()

    def put_prompt(self, row: Mapping[str, Any], stamp: Stamp) -> None:
        path = self._prompt_path(row)
        if not path.is_file():
            write_parquet(self.scratch, path, card(schemas.PROMPTS, {**row, "fingerprint": path.stem}, stamp))

    def evaluations_path(self, key: str) -> Path:
        return self.root / "evaluations" / f"{slug(key)}.parquet"

    def has_evaluations(self, key: str) -> bool:
        return self.evaluations_path(key).is_file()

    def put_evaluations(self, name: str, rows: list[dict[str, Any]], stamp: Stamp, key: str | None = None) -> str:
        """Write rows of one evaluation as one file.

        Args:
            key: identity of the evaluation, by which it is found again; default: one of these rows and this run.
        """
        tables = [card(schemas.EVALUATIONS, {"name": name, **row}, stamp) for row in rows]
        key = key or fingerprint(name=name, rows=rows, run=stamp.run_id or stamp.flow_run_id)
        write_parquet(self.scratch, self.evaluations_path(key), pa.concat_tables(tables))
        return key

    def evaluations(self, key: str) -> list[dict[str, Any]]:
        if not self.has_evaluations(key):
            raise NotInStoreError(f"no evaluation {key} in {self.root}; run the study that holds it")
        return read_parquet(self.evaluations_path(key)).to_pylist()

    def put_run(self, row: Mapping[str, Any], stamp: Stamp) -> None:
        """Record how a run ended. A flow run that is tried again has several records, of which the last counts."""
        mark_current(self.root)
        path = self.root / "runs" / f"{stamp.flow_run_id or 'run'}-{os.urandom(4).hex()}.parquet"
        write_parquet(self.scratch, path, card(schemas.RUNS, row, stamp))

    def run_state(self, flow_run_id: str) -> str | None:
        """How a flow run ended; None of one that has not, or was killed. Raises StoreError: a record cannot be read."""
        from storage.catalog import query  # slow to import, and asked only after a kill

        rows = query(self.root, "SELECT state FROM runs WHERE flow_run_id = $id", {"id": flow_run_id}).rows
        return rows[0][0] if rows else None

    def put_report(self, name: str, html: str) -> Path:
        path = self.root / "reports" / slug(name)

        def write(temporary: Path) -> None:
            temporary.write_text(html, encoding="utf-8")

        write_file(self.scratch, path, write)
        return path
