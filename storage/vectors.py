"""Spaces, embeddings, frames and rankings in the store."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fute.errors import StoreError
from fute.types import Floats, Kind, TaskEmbedding
from fute.unify.frame import FRAME_VERSION, KINDS, PAIRS, Chance, Frame, Null
from storage import schemas
from storage.files import read_parquet, write_parquet
from storage.parts import files_of, parts_of, while_files_go
from storage.retirements import SubjectKey, retired
from storage.stamp import Stamp
from storage.store import Store, card, slug, to_json

EARLIEST = datetime.min.replace(tzinfo=UTC)

IMPORTED = "imported"
"""Among the settings of an embedding that came from another store: from whom, and in which file."""

CHANCES = tuple(f"{kind}_{name}" for kind in KINDS for name in ("mean", "sd"))


@dataclass(frozen=True, eq=False)
class StoredEmbedding:
    """An embedding and what stands beside it."""

    row: Mapping[str, Any]
    vector: Floats

    @property
    def subject(self) -> str:
        return self.row["subject"]

    @property
    def imported(self) -> bool:
        """Of another store: neither its outputs nor its rows are here."""
        return IMPORTED in json.loads(self.row["settings"] or "{}")

    @property
    def kind(self) -> Kind:
        return self.row["kind"]

    @property
    def fingerprint(self) -> str:
        return self.row["fingerprint"]

    @property
    def ref(self) -> str:
        """The subject with its version, as its dataset or model is filed."""
        return f"{self.subject}@{self.row['subject_fingerprint']}"

    @property
    def metrics(self) -> Mapping[str, Any]:
        """What the method measured."""
        return json.loads(self.row["metrics"] or "{}")


class VectorStore:
    """The part of a store that holds vectors."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.root = store.root

    # -------------------------------------------------------------------------------------------------- spaces

    def put_space(self, row: Mapping[str, Any], stamp: Stamp) -> None:
        path = self._space_path(row["space"])
        if not path.is_file():
            write_parquet(self.store.scratch, path, card(schemas.SPACES, row, stamp))

    def _space_path(self, space: str) -> Path:
        return self.root / "spaces" / f"{space}.parquet"

    def spaces(self) -> list[dict[str, Any]]:
        return [read_parquet(p).to_pylist()[0] for p in sorted((self.root / "spaces").glob("*.parquet"))]

    def space(self, space: str) -> dict[str, Any]:
        """Its row of `spaces`. Raises FileNotFoundError: it is not in the store."""
        return read_parquet(self._space_path(space)).to_pylist()[0]

    # ---------------------------------------------------------------------------------------------- embeddings

    def folder(self, space: str, kind: Kind) -> Path:
        return self.root / "embeddings" / f"space={slug(space)}" / f"kind={kind}"

    def path(self, space: str, kind: Kind, fingerprint: str) -> Path:
        return self.folder(space, kind) / f"{slug(fingerprint)}.parquet"

    def has(self, space: str, kind: Kind, fingerprint: str) -> bool:
        # The single first: it is deleted only after its part is there.
        return self.path(space, kind, fingerprint).is_file() or any(
            fingerprint in _versions(part) for part in parts_of(self.folder(space, kind))
        )

    def put(self, row: Mapping[str, Any], embedding: TaskEmbedding, stamp: Stamp) -> None:
        """Write one embedding. A fingerprint that is there already is left as it is.

        Raises:
            StoreError: the vector is zero or not finite (a cosine with it would be NaN).
        """
        table = _table(row, embedding, stamp)
        if not self.has(row["space"], row["kind"], row["fingerprint"]):
            write_parquet(self.store.scratch, self.path(row["space"], row["kind"], row["fingerprint"]), table)

    def get(self, space: str, kind: Kind, fingerprint: str) -> StoredEmbedding:
        """Raises FileNotFoundError: it is not in the store."""
        path = self.path(space, kind, fingerprint)
        try:
            return next(_stored(read_parquet(path)))
        except FileNotFoundError:
            for part in parts_of(self.folder(space, kind)):
                if fingerprint in _versions(part):
                    return next(_stored(_rows(part, [fingerprint])))
            raise

    def population(self, space: str, current: Mapping[SubjectKey, str] | None = None) -> list[StoredEmbedding]:
        """The embedding of each subject of a space that counts, in the order of kind and subject.

        Args:
            current: fingerprints by subject that count in any case: of what a run has made or found just now. The other
                subjects count as the last ranking saw them, or as they were embedded since; those that it did not see
                by their latest embedding; those that were retired not at all.
        """
        look = partial(self._population, space, current or {})
        return while_files_go(look)

    def _population(self, space: str, current: Mapping[SubjectKey, str]) -> list[StoredEmbedding]:
        ranked_at, members = self._last_members(space)
        gone = retired(self.root)
        found: list[StoredEmbedding] = []
        for kind in sorted(get_args(Kind)):
            files = files_of(self.folder(space, kind))
            counted: dict[str, tuple[bool, datetime, bool, str]] = {}
            for path in files:
                for fingerprint, (subject, made_at) in _versions(path).items():
                    key = (kind, subject)
                    if key in gone and current.get(key) != fingerprint:
                        continue
                    member = members.get(key) == fingerprint
                    # A member is as new as its ranking.
                    order = (current.get(key) == fingerprint, ranked_at if member else made_at, member, fingerprint)
                    counted[subject] = max(order, counted.get(subject, order))
            found += _read(files, {fingerprint: subject for subject, (*_, fingerprint) in sorted(counted.items())})
        return found

    # ----------------------------------------------------------------------------------------- frames, neighbours

    def put_frame(self, space: str, frame: Frame, stamp: Stamp) -> None:
        """Write the frame of a space, once: it follows from the space."""
        path = self._frame_path(space)
        if path.is_file():
            return
        row = {
            "space": space,
            "version": FRAME_VERSION,
            "tasks": frame.tasks,
            "own_model_first": frame.own_first["dataset", "model"],
            "own_dataset_first": frame.own_first["model", "dataset"],
            "mean": frame.mean,
            "nulls": to_json(
                {
                    f"{a} {b}": {**asdict(frame.nulls[a, b]), "quantiles": frame.nulls[a, b].quantiles.tolist()}
                    for a, b in PAIRS
                }
            ),
        }
        write_parquet(self.store.scratch, path, card(schemas.FRAMES, row, stamp))

    def frame(self, space: str) -> Frame | None:
        """The frame of a space, without its pseudo-subjects; None: it has none."""
        path = self._frame_path(space)
        if not path.is_file():
            return None
        row = read_parquet(path).to_pylist()[0]
        told = json.loads(row["nulls"])
        nulls: dict[tuple[Kind, Kind], Null] = {}
        for a, b in PAIRS:
            own = told[f"{a} {b}"]
            nulls[a, b] = nulls[b, a] = Null(**{**own, "quantiles": np.array(own["quantiles"])})
        own_first: dict[tuple[Kind, Kind], float] = {
            ("dataset", "model"): row["own_model_first"],
            ("model", "dataset"): row["own_dataset_first"],
        }
        return Frame(np.array(row["mean"], np.float32), nulls, own_first, row["tasks"])

    def ranked_frame(self, space: str) -> Frame | None:
        """The frame that the last ranking was made in; None: it was made without one (unify.frame: none).

        Where nothing was ranked yet, that of the space.
        """
        key = self._last("members", space)
        return None if key is not None and not self._is_framed(space, key) else self.frame(space)

    def _frame_path(self, space: str) -> Path:
        return self.root / "frames" / f"space={space}" / f"{FRAME_VERSION}.parquet"

    def put_alignment(self, key: str, row: Mapping[str, Any], stamp: Stamp) -> None:
        """Write an alignment of two spaces, once: but for the subjects that both held, it follows from the spaces."""
        path = self.root / "alignments" / f"{key}.parquet"
        if not path.is_file():
            write_parquet(self.store.scratch, path, card(schemas.ALIGNMENTS, row, stamp))

    def put_ranking(
        self,
        space: str,
        key: str,
        neighbors: pa.Table,
        population: Sequence[StoredEmbedding],
        chance: Chance | None,
        stamp: Stamp,
    ) -> None:
        """Write a ranking, its members first: which embedding of each subject it saw. It counts as the last one.

        Args:
            key: its identity.
            neighbors: its rows, without a stamp.
            chance: what cosines its members have with unrelated subjects; None: the space has no frame.
        """
        unknown = [None] * len(population)
        members = pa.table(
            {
                **{
                    f"{kind}_{name}": pa.array(unknown if chance is None else chance.of[kind][i], pa.float64())
                    for kind in KINDS
                    for i, name in enumerate(("mean", "sd"))
                },
                "space": [space] * len(population),
                "ranking": [key] * len(population),
                "kind": [e.kind for e in population],
                "subject": [e.subject for e in population],
                "fingerprint": [e.fingerprint for e in population],
                "subject_fingerprint": [e.row["subject_fingerprint"] for e in population],
            }
        )
        at = max(stamp.columns(1)["created_at"][0].as_py(), self._latest(space) + timedelta(microseconds=1))
        for table, schema, name in ((members, schemas.MEMBERS, "members"), (neighbors, schemas.NEIGHBORS, "neighbors")):
            columns = {column: table[column] for column in table.column_names} | stamp.columns(len(table))
            columns["created_at"] = pa.array([at] * len(table), schemas.UTC)
            written = pa.table({column: columns[column] for column in schema.names}).cast(schema)
            write_parquet(self.store.scratch, self.root / name / f"space={space}" / f"{key}.parquet", written)

    def has_ranked(self, space: str, key: str) -> bool:
        """Whether this very ranking is the last one, and the space that it is of is recorded, with its frame if any."""
        if not (self._space_path(space).is_file() and self._is_last(space, key)):
            return False
        return self._frame_path(space).is_file() or not self._is_framed(space, key)

    def _is_last(self, space: str, key: str) -> bool:
        return key == self._last("members", space) == self._last("neighbors", space)

    def _latest(self, space: str) -> datetime:
        """The time of the latest ranking or embedding of a space: the next is later, also when the clock went back."""
        made = [
            at
            for kind in get_args(Kind)
            for path in files_of(self.folder(space, kind))
            for _, at in _versions(path).values()
        ]
        ranked = [at for name in ("members", "neighbors") for at in self._times(name, space).values()]
        return max([*made, *ranked], default=EARLIEST)

    def ranked_at(self, space: str) -> datetime:
        """When a space was last ranked; EARLIEST: never."""
        return self._last_members(space)[0]

    def _last_members(self, space: str) -> tuple[datetime, dict[SubjectKey, str]]:
        """When the last ranking of a space was written, and the fingerprints that it saw."""
        key = self._last("members", space)
        if key is None:
            return EARLIEST, {}
        rows = self._members(space, key).to_pylist()
        return rows[0]["created_at"], {(row["kind"], row["subject"]): row["fingerprint"] for row in rows}

    def chance(self, space: str, population: Sequence[StoredEmbedding]) -> Chance | None:
        """What the last ranking knows of its members' cosines with unrelated subjects; NaN for those it did not see.

        None: there is no ranking, or the space has no frame.
        """
        key = self._last("members", space)
        if key is None or not self._is_framed(space, key):
            return None
        table = self._members(space, key)
        rows = pc.index_in(
            pa.array([e.fingerprint for e in population]), value_set=table["fingerprint"].combine_chunks()
        )
        values = {c: table[c].combine_chunks().take(rows).to_numpy(zero_copy_only=False) for c in CHANCES}
        return Chance({kind: (values[f"{kind}_mean"], values[f"{kind}_sd"]) for kind in KINDS})

    def _is_framed(self, space: str, key: str) -> bool:
        """Whether a ranking was made in a frame: then it knows what is chance for its members."""
        table = self._members(space, key)
        return set(CHANCES) <= set(table.column_names) and table[CHANCES[0]].null_count < len(table)

    def _members(self, space: str, key: str) -> pa.Table:
        return read_parquet(self.root / "members" / f"space={space}" / f"{key}.parquet")

    def _last(self, name: str, space: str) -> str | None:
        """The key of the last ranking."""
        times = self._times(name, space)
        return max(times, key=lambda key: (times[key], key), default=None)

    def _times(self, name: str, space: str) -> dict[str, datetime]:
        """When each ranking was written, by key; one without rows has no time."""
        files = (self.root / name / f"space={space}").glob("*.parquet")
        times = {path.stem: read_parquet(path, ["created_at"])["created_at"] for path in files}
        return {key: time[0].as_py() for key, time in times.items() if len(time)}

    def neighbors(self, space: str) -> list[dict[str, Any]]:
        """The rows of the last unification of a space, best first within each query and kind; none of the retired."""
        key = self._last("neighbors", space)
        if key is None:
            return []
        gone = retired(self.root)
        table = read_parquet(self.root / "neighbors" / f"space={space}" / f"{key}.parquet")
        if "similarity" not in table.column_names:  # of an earlier version: its score is the cosine
            cosines = table["score"]
            table = table.drop_columns(["score", "ci_low", "ci_high"]).append_column("similarity", cosines)
        table = pa.concat_tables([schemas.NEIGHBORS.empty_table(), table], promote_options="default")
        order = ("query_kind", "query", "candidate_kind", "rank")
        rows = table.sort_by([(column, "ascending") for column in order]).to_pylist()
        if not gone:
            return rows
        ends = ("query_kind", "query"), ("candidate_kind", "candidate")
        left = [row for row in rows if not any((row[kind], row[subject]) in gone for kind, subject in ends)]
        for _, group in groupby(left, itemgetter("query_kind", "query", "candidate_kind")):
            ranked = list(group)
            second = ranked[1]["rank"] if len(ranked) > 1 else None
            for rank, row in enumerate(ranked, start=1):
                if second != 2:  # the lead over a second that was retired is nobody's
                    row |= dict.fromkeys(("ahead", "ahead_low", "ahead_high"))
                row["rank"] = rank
        return left


def _table(row: Mapping[str, Any], embedding: TaskEmbedding, stamp: Stamp) -> pa.Table:
    """An embedding as a table of one row.

    Raises:
        StoreError: the vector is zero or not finite.
    """
    vector = np.ascontiguousarray(embedding.vector, dtype=np.float32)
    norm = float(np.linalg.norm(vector))
    if vector.ndim != 1 or not np.isfinite(norm) or norm == 0:
        raise StoreError(
            f"the embedding of {row['subject']} is {'zero' if norm == 0 else 'not finite'}, and would compare "
            "as NaN; look at the subject's outputs or labels"
        )
    columns = {"vector": vector, "dim": len(vector), "norm": norm, "metrics": to_json(dict(embedding.metrics))}
    return card(schemas.embeddings(len(vector)), {**row, **columns}, stamp)


@lru_cache(maxsize=65536)
def _versions(path: Path) -> dict[str, tuple[str, datetime]]:
    """Subject and time of each embedding in a file, by fingerprint. A file never changes."""
    table = read_parquet(path, ["fingerprint", "subject", "created_at"])
    values = zip(table["subject"].to_pylist(), table["created_at"].to_pylist(), strict=True)
    return dict(zip(table["fingerprint"].to_pylist(), values, strict=True))


def _read(files: Sequence[Path], wanted: Mapping[str, str]) -> list[StoredEmbedding]:
    """Embeddings by fingerprint, each once, in the order in which they are wanted."""
    found: dict[str, StoredEmbedding] = {}
    for path in files:
        here = [fingerprint for fingerprint in _versions(path) if fingerprint in wanted and fingerprint not in found]
        if here:
            found |= {e.fingerprint: e for e in _stored(_rows(path, here))}
    return [found[fingerprint] for fingerprint in wanted]


def _rows(path: Path, fingerprints: Sequence[str]) -> pa.Table:
    """Some embeddings of a file. Raises StoreError: it is damaged; FileNotFoundError: it is gone."""
    every = len(fingerprints) == len(_versions(path))
    return read_parquet(path, where=None if every else pc.field("fingerprint").isin(fingerprints))


def _stored(table: pa.Table) -> Iterator[StoredEmbedding]:
    rows = table.drop_columns(["vector"]).to_pylist()
    vectors = table["vector"].combine_chunks().flatten().to_numpy().reshape(len(table), -1)
    for row, vector in zip(rows, vectors, strict=True):
        yield StoredEmbedding(row, vector)
