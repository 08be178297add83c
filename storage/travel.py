"""Vectors that travel between stores: one Parquet file with a space's vectors, its card, and checks.

The file holds no text, output or weight. Its checks are vectors of some of the pool's own tasks: a store that makes
others of the same tasks has another space, whatever it is called. Nothing in a file is trusted before it is looked at.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import pyarrow as pa

from fute.did_you_mean import did_you_mean
from fute.errors import NotInStoreError, StoreError
from fute.fingerprint import fingerprint, fingerprint_bytes
from fute.space import embedding_id
from fute.types import UNRELATED, Floats, Kind, TaskEmbedding
from storage import schemas
from storage.files import read_parquet, write_parquet_folder
from storage.retirements import bring_back
from storage.seal import write_sealed
from storage.stamp import Stamp, code_version
from storage.store import Store, card, to_json
from storage.vectors import IMPORTED, VectorStore

TRAVEL_VERSION = 1
CARD_KEY = b"fute.space_card"
CHECK = "check"  # the kind of rows that are no subjects
SAME = 0.999  # cosine of check vectors from which they are the same: processors differ by rounding alone
SPACE_COLUMNS = ("space", "method", "surrogate", "revision", "pool", "seed", "settings")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/+-]{0,99}")  # as ids of a study are
VERSION = re.compile(r"[A-Za-z0-9._-]{1,64}")

ROWS = pa.schema(
    [
        pa.field("kind", pa.string()),
        pa.field("subject", pa.string()),
        pa.field("subject_fingerprint", pa.string()),
        pa.field("subject_kind", pa.string()),
        pa.field("task", pa.string()),
        pa.field("unrelated_p", pa.float64()),  # that outputs or labels have nothing to do with the texts
        pa.field("vector", pa.list_(pa.float32())),
    ]
)


class Exported(NamedTuple):
    subjects: int
    digest: str


class Imported(NamedTuple):
    space: str
    subjects: int
    known: int


def write_file_of(store: Store, space: str, target: Path, checks: Floats, subjects: Sequence[str] = ()) -> Exported:
    """Write the subjects of a space, or some of them, to a file. What was imported itself does not travel on.

    Args:
        checks: (n, dim) of the pool's own tasks.

    Raises:
        NotInStoreError: no such subject, or none at all.
    """
    vectors = VectorStore(store)
    population = [e for e in vectors.population(space) if not e.imported]
    known = {e.subject for e in population}
    for subject in subjects:
        if subject not in known:
            raise NotInStoreError(f"no {subject!r} of this store in space {space}{did_you_mean(subject, known)}")
    chosen = [e for e in population if not subjects or e.subject in subjects]
    if not chosen:
        raise NotInStoreError(f"space {space} holds no subjects of this store; run a study first")
    rows: list[Mapping[str, Any]] = [
        {
            **{name: e.row[name] for name in ROWS.names[:5]},
            "unrelated_p": e.metrics.get(UNRELATED),
            "vector": e.vector,
        }
        for e in chosen
    ]
    rows += [{"kind": CHECK, "subject": f"{i}", "vector": vector} for i, vector in enumerate(checks)]
    table = pa.table({f.name: pa.array([row.get(f.name) for row in rows], f.type) for f in ROWS}, schema=ROWS)
    told = _card_of(vectors.space(space)) | {"version": TRAVEL_VERSION, "code": code_version()}
    digest = _digest(table, told)
    sealed = table.replace_schema_metadata({CARD_KEY: to_json(told | {"digest": digest}).encode()})
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        write_sealed(sealed, temporary, place="")
        os.replace(temporary, target)
    except OSError as exc:
        raise StoreError(f"{target} cannot be written ({exc}); give another place") from exc
    finally:
        temporary.unlink(missing_ok=True)
    return Exported(len(chosen), digest)


def _card_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of `spaces` as it may leave: a surrogate that is a file here is named without its folders."""
    settings = json.loads(row["settings"])
    surrogate = _without_folders(row["surrogate"])
    if "model" in settings.get("surrogate", {}):
        settings["surrogate"]["model"] = surrogate
    return {name: row[name] for name in SPACE_COLUMNS} | {"surrogate": surrogate, "settings": to_json(settings)}


def _without_folders(surrogate: str) -> str:
    kind, colon, name = surrogate.rpartition(":")
    return f"{kind}{colon}{Path(name).name}" if name.startswith(("/", ".", "~")) else surrogate


def read_file_of(store: Store, path: Path, origin: str, checks_of: Callable[[str], Floats]) -> Imported:
    """Take the subjects of a file into the same space of this store, named by their origin.

    Args:
        checks_of: this store's own check vectors of a space.

    Raises:
        StoreError: the file is damaged, no such file, or holds what no space holds; or the space is another one.
        NotInStoreError: the store lacks the space.
    """
    if not NAME.fullmatch(origin):
        raise StoreError(f"--as {origin!r}: give a name of letters, digits and . _ / + -")
    table, told = _opened(path)
    vectors, space = VectorStore(store), told["space"]
    if space not in {row["space"] for row in vectors.spaces()}:
        raise NotInStoreError(
            f"{path} holds vectors of space {space}, which is not in {store.root}: a run of {told['method']} with the "
            f"surrogate {told['surrogate']} over pool {told['pool']} makes it; `fute align` then reads it in yours"
        )
    is_check = np.array([kind == CHECK for kind in table["kind"].to_pylist()])
    given, own = _vectors(path, table), checks_of(space)
    if given.shape[1] != own.shape[1] or is_check.sum() != len(own):
        raise StoreError(f"{path} is of another space than {space} is here: it has other checks; get it anew")
    cosines = np.sum(given[is_check] * own, axis=1) / np.linalg.norm(own, axis=1)
    if cosines.min() < SAME:
        raise StoreError(
            f"{path} is of another space than {space} is here: of the same text task the two make vectors with a "
            f"cosine of {cosines.min():.3f} ({SAME} is needed); compare surrogate files and versions of fute"
        )
    rows = [row for row in table.drop_columns(["vector"]).to_pylist() if row["kind"] != CHECK]
    _require_subjects(path, rows, origin)
    ours = {(e.kind, e.subject) for e in vectors.population(space) if not e.imported}
    for row in rows:
        if (row["kind"], f"{origin}/{row['subject']}") in ours:
            raise StoreError(f"this store has a {row['kind']} {origin}/{row['subject']} of its own; give another --as")
    described = vectors.space(space)
    imported = {IMPORTED: {"from": origin, "digest": told["digest"]}}
    settings = to_json(json.loads(described["settings"]) | imported)
    known, stamp = 0, Stamp()
    for row, vector in zip(rows, given[~is_check], strict=True):
        kind: Kind = row["kind"]
        subject = f"{origin}/{row['subject']}"
        key = embedding_id(space, kind, subject, row["subject_fingerprint"])
        known += vectors.has(space, kind, key)
        subject_columns = {name: row[name] for name in ("subject_fingerprint", "subject_kind", "task")}
        written = {
            **{name: described[name] for name in SPACE_COLUMNS},
            **subject_columns,
            "kind": kind,
            "subject": subject,
            "fingerprint": key,
            "settings": settings,
        }
        metrics = {} if row["unrelated_p"] is None else {UNRELATED: row["unrelated_p"]}
        _put_card(store, subject, row, to_json(imported), stamp)
        vectors.put(written, TaskEmbedding(vector, metrics), stamp)
    bring_back(store, [(row["kind"], f"{origin}/{row['subject']}") for row in rows], stamp)
    return Imported(space, len(rows), known)


def _put_card(store: Store, subject: str, row: Mapping[str, Any], imported: str, stamp: Stamp) -> None:
    """What a store says of every subject; of this one neither rows nor outputs are here."""
    version = row["subject_fingerprint"]
    ref = f"{subject}@{version}"
    own = {"ref": ref, "id": subject, "fingerprint": version, "task": row["task"]}
    if row["kind"] == "model":
        store.put_model({**own, "kind": row["subject_kind"], "settings": imported}, stamp)
    else:
        described = {**own, "task": row["subject_kind"], "provenance": imported, "report": "{}"}
        write_parquet_folder(
            store.scratch, store.dataset_folder(ref), {"card": card(schemas.DATASETS, described, stamp)}
        )


def _opened(path: Path) -> tuple[pa.Table, dict[str, Any]]:
    """The rows and the card. Raises StoreError: no such file, or not whole."""
    try:
        table = read_parquet(path)
    except StoreError as exc:
        raise StoreError(f"{path} is no whole file of `fute export`; get it anew ({exc.__cause__ or exc})") from exc
    try:
        told = json.loads((table.schema.metadata or {})[CARD_KEY])
        version, digest = told["version"], told.pop("digest")
        complete = all(isinstance(told[name], str) for name in SPACE_COLUMNS if name != "seed")
    except (KeyError, ValueError, TypeError, AttributeError) as exc:
        raise StoreError(f"{path} was not written by `fute export`: it has no card of a space") from exc
    if version != TRAVEL_VERSION or not complete or not table.schema.equals(ROWS):
        raise StoreError(f"{path} has another form ({version!r}) than this fute reads; export it with this version")
    try:
        whole = digest == _digest(table, told)
    except ValueError:  # a number that is none
        whole = False
    if not whole:
        raise StoreError(f"{path} was changed after it was exported: its digest does not fit; get it anew")
    return table, told | {"digest": digest}


def _digest(table: pa.Table, told: Mapping[str, Any]) -> str:
    """Of the card and all rows: names the file, and says whether it was changed."""
    vectors = table["vector"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    rows = table.drop_columns(["vector"]).to_pylist()
    return fingerprint(
        card=dict(told), rows=rows, vectors=fingerprint_bytes(np.ascontiguousarray(vectors, "<f4").tobytes())
    )


def _vectors(path: Path, table: pa.Table) -> Floats:
    """(n, dim) at unit length. Raises StoreError: not all of one length, zero, or not finite."""
    column = table["vector"].combine_chunks()
    lengths = set(column.value_lengths().to_pylist())
    if len(lengths) != 1 or lengths & {0, None} or column.flatten().null_count:
        raise StoreError(f"{path} holds vectors of several lengths, or gaps in them; get it anew")
    vectors = column.flatten().to_numpy().reshape(len(table), -1).astype(np.float32)
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
    if not np.isfinite(norms).all() or norms.min() == 0:
        raise StoreError(f"{path} holds vectors that are zero or not finite; get it anew")
    return (vectors / norms[:, None]).astype(np.float32)


def _require_subjects(path: Path, rows: Sequence[Mapping[str, Any]], origin: str) -> None:
    """Raises StoreError: a row names no subject of a space, or one stands there twice."""
    seen = set()
    for row in rows:
        kind, subject, p = row["kind"], row["subject"], row["unrelated_p"]
        if kind not in get_args(Kind) or not NAME.fullmatch(f"{origin}/{subject}"):
            raise StoreError(f"{path} holds a {kind!r} {subject!r}, which is no kind and name of a subject")
        if not VERSION.fullmatch(row["subject_fingerprint"] or "") or not (p is None or 0 <= p <= 1):
            raise StoreError(f"{path}: the {kind} {subject} has no version, or a p-value that is none; get it anew")
        if (kind, subject) in seen:
            raise StoreError(f"{path} holds the {kind} {subject} twice; get it anew")
        seen.add((kind, subject))
