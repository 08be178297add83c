"""Spaces, embeddings, reference means and neighbours in the store."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fute.errors import StoreError
from fute.types import Floats, Kind, TaskEmbedding
from fute.unify.frame import NO_REFERENCE, GroupReference, Reference, Subject
from storage import schemas
from storage.files import read_parquet, write_parquet
from storage.stamp import Stamp
from storage.store import Store, card, to_json

STAMP_COLUMNS = tuple(field.name for field in schemas.STAMP)


@dataclass(frozen=True, eq=False)
class StoredEmbedding:
    """An embedding and what stands beside it."""

    row: Mapping[str, Any]
    vector: Floats

    @property
    def subject(self) -> str:
        return self.row["subject"]

    @property
    def kind(self) -> Kind:
        return self.row["kind"]

    @property
    def fingerprint(self) -> str:
        return self.row["fingerprint"]

    @property
    def group(self) -> Subject:
        """What decides which reference fits: its kind, and a model's make."""
        return Subject(self.kind, self.row["subject_kind"] if self.kind == "model" else "")


class VectorStore:
    """The part of a store that holds vectors."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.root = store.root

    # -------------------------------------------------------------------------------------------------- spaces

    def put_space(self, row: Mapping[str, Any], stamp: Stamp) -> None:
        path = self.root / "spaces" / f"{row['space']}.parquet"
        if not path.is_file():
            write_parquet(self.store.scratch, path, card(schemas.SPACES, row, stamp))

    def spaces(self) -> list[dict[str, Any]]:
        return [read_parquet(p).to_pylist()[0] for p in sorted((self.root / "spaces").glob("*.parquet"))]

    # ---------------------------------------------------------------------------------------------- embeddings

    def path(self, space: str, kind: Kind, fingerprint: str) -> Path:
        return self.root / "embeddings" / f"space={space}" / f"kind={kind}" / f"{fingerprint}.parquet"

    def has(self, space: str, kind: Kind, fingerprint: str) -> bool:
        return self.path(space, kind, fingerprint).is_file()

    def put(self, row: Mapping[str, Any], embedding: TaskEmbedding, stamp: Stamp) -> None:
        """Write one embedding. A fingerprint that is there already is left as it is.

        Raises:
            StoreError: the vector is zero or not finite (a cosine with it would be NaN).
        """
        vector = np.ascontiguousarray(embedding.vector, dtype=np.float32)
        norm = float(np.linalg.norm(vector))
        if vector.ndim != 1 or not np.isfinite(norm) or norm == 0:
            raise StoreError(
                f"the embedding of {row['subject']} is {'zero' if norm == 0 else 'not finite'}, and would compare "
                "as NaN; look at the subject's outputs or labels"
            )
        path = self.path(row["space"], row["kind"], row["fingerprint"])
        if path.is_file():
            return
        schema = schemas.embeddings(len(vector))
        columns = {name: pa.array([row.get(name)], schema.field(name).type)
                   for name in schema.names if name != "vector"}  # fmt: skip
        columns["vector"] = pa.FixedSizeListArray.from_arrays(pa.array(vector), len(vector))
        columns["dim"] = pa.array([len(vector)], pa.int32())
        columns["norm"] = pa.array([norm], pa.float32())
        columns["metrics"] = pa.array([to_json(dict(embedding.metrics))])
        columns.update(stamp.columns(1))
        table = pa.table({name: columns[name] for name in schema.names}, schema=schema)
        write_parquet(self.store.scratch, path, table)

    def get(self, space: str, kind: Kind, fingerprint: str) -> StoredEmbedding:
        return self._read(self.path(space, kind, fingerprint))

    def _read(self, path: Path) -> StoredEmbedding:
        table = read_parquet(path)
        vector = table["vector"].combine_chunks().flatten().to_numpy().astype(np.float32)
        return StoredEmbedding(table.drop_columns(["vector"]).to_pylist()[0], vector)

    def touch(self, space: str, kind: Kind, fingerprint: str) -> None:
        """Mark an embedding as the one in use: a subject that went back to an earlier version counts as that one."""
        os.utime(self.path(space, kind, fingerprint))

    def population(self, space: str) -> list[StoredEmbedding]:
        """The embedding of each subject of a space that was made or used last, in the order of kind and subject."""
        folder = self.root / "embeddings" / f"space={space}"
        newest: dict[tuple[str, str], StoredEmbedding] = {}
        for path in sorted(folder.glob("kind=*/*.parquet"), key=lambda path: (path.stat().st_mtime_ns, path.name)):
            embedding = self._read(path)
            newest[embedding.kind, embedding.subject] = embedding
        return [newest[key] for key in sorted(newest)]

    # ---------------------------------------------------------------------------------- reference means, neighbours

    def put_reference(self, space: str, reference: Reference, stamp: Stamp) -> None:
        """Write a new version. One that is there already is left as it is, for rankings refer to it by number."""
        path = self.root / "references" / f"space={space}" / f"{reference.version:06d}.parquet"
        if path.is_file():
            return
        rows = [
            card(
                schemas.REFERENCES,
                {
                    "space": space,
                    "version": reference.version,
                    "subject_group": name,
                    "members": list(group.members),
                    "mean": group.mean,
                    "mixing": None if group.mixing is None else group.mixing.ravel(),
                },
                stamp,
            )
            for name, group in sorted(reference.groups.items())
        ]
        write_parquet(self.store.scratch, path, pa.concat_tables(rows))

    def reference(self, space: str) -> Reference:
        """The newest reference of a space; version 0, empty, when there is none."""
        files = sorted((self.root / "references" / f"space={space}").glob("*.parquet"))
        if not files:
            return NO_REFERENCE
        table = read_parquet(files[-1])
        means, mixings = table["mean"].combine_chunks(), table["mixing"].combine_chunks()
        groups = {}
        for i, row in enumerate(table.select(["subject_group", "members"]).to_pylist()):
            mixing = mixings[i].values
            groups[row["subject_group"]] = GroupReference(
                means[i].values.to_numpy(),
                None if mixing is None else _square(mixing.to_numpy()),
                tuple(row["members"]),
            )
        return Reference(table["version"][0].as_py(), groups)

    def refresh_neighbors(self, space: str, fingerprint: str) -> bool:
        """Whether this very unification is stored; if so it counts as the newest one from now on."""
        path = self.root / "neighbors" / f"space={space}" / f"{fingerprint}.parquet"
        if not path.is_file():
            return False
        stored = self.neighbors(space)
        table = read_parquet(path)
        if stored and stored[0]["created_at"] != table["created_at"][0].as_py():
            stamp = Stamp(table["run_id"][0].as_py(), table["flow_run_id"][0].as_py())
            self.put_neighbors(space, fingerprint, table.drop_columns(list(STAMP_COLUMNS)), stamp)
        return True

    def put_neighbors(self, space: str, fingerprint: str, rows: pa.Table, stamp: Stamp) -> None:
        columns = {name: rows[name] for name in rows.column_names}
        columns.update(stamp.columns(len(rows)))
        table = pa.table({name: columns[name] for name in schemas.NEIGHBORS.names}).cast(schemas.NEIGHBORS)
        path = self.root / "neighbors" / f"space={space}" / f"{fingerprint}.parquet"
        write_parquet(self.store.scratch, path, table)

    def neighbors(self, space: str) -> list[dict[str, Any]]:
        """The rows of the last unification of a space, best first within each query and kind."""
        files = list((self.root / "neighbors" / f"space={space}").glob("*.parquet"))
        tables = [table for table in map(read_parquet, files) if len(table)]
        if not tables:
            return []
        newest = max(tables, key=lambda table: table["created_at"][0].as_py())
        return newest.sort_by(
            [("query", "ascending"), ("candidate_kind", "ascending"), ("rank", "ascending")]
        ).to_pylist()


def _square(flat: Floats) -> Floats:
    side = int(len(flat) ** 0.5)
    return flat.reshape(side, side)
