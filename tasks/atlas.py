"""The atlas of a study or of a whole store, read from the store: what the page is made of, without Prefect."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from fute.config import EndpointConfig
from fute.errors import NotInStoreError
from fute.report import types as page
from fute.report.page import render_atlas
from fute.surrogate.vectors import NONE, has_no_model
from fute.unify.frame import legend
from storage.catalog import Catalog
from storage.store import Store
from storage.summary import SpaceSummary, shown_score, summarise
from storage.tracker import TRACKING_FILE, default_uri
from storage.vectors import StoredEmbedding
from tasks.layouts import layout_of
from tasks.subjects import Key, SubjectReader

NEAREST = 10  # of each kind, for each subject; the store holds the rest
MOST_SUBJECTS = 2000  # of a space; every pair is a cell, and no screen has more


@dataclass(frozen=True)
class SpaceContents:
    """One space as it goes on a page; its vectors are gone by then.

    Attributes:
        row: its row of `spaces`.
        fields: those of a SpaceMap that do not depend on the page.
        subjects: by key, when the embedding that counts was made, and the subject as it is known by that one.
    """

    row: Mapping[str, Any]
    fields: Mapping[str, Any]
    subjects: Mapping[Key, tuple[datetime, page.Subject]]
    commands: Sequence[page.Command]


@dataclass
class AtlasReader:
    """Reads one store, in a `with`. What several pages share, the spaces above all, is read once.

    Attributes:
        store: the store.
        prices: by endpoint id, of the run that is going on, which the store does not know yet.
        notes: by space, what a reader should be told about it.
    """

    store: Store
    prices: Mapping[str, EndpointConfig] = field(default_factory=dict)
    notes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    _contents: dict[str, SpaceContents] = field(default_factory=dict)

    def __enter__(self) -> AtlasReader:
        self._catalog = Catalog(self.store.root).__enter__()
        self._subjects = SubjectReader(self.store, self._catalog, self.prices)
        return self

    def __exit__(self, *_: object) -> None:
        self._catalog.__exit__()

    def spaces(self) -> list[str]:
        """All spaces that hold something, by method and id."""
        rows = self._rows("SELECT DISTINCT space, method FROM embeddings ORDER BY method, space")
        return [row["space"] for row in rows]

    def atlas(self, title: str, spaces: Sequence[str], failures: Iterable[page.Failure]) -> page.Atlas:
        """The page of these spaces. Those with too many subjects to draw are named in its notes."""
        drawn = [space for space in spaces if self._sizes.get(space, 0) <= MOST_SUBJECTS]
        notes = [
            f"Space {space} holds {self._sizes[space]:,} subjects and is not drawn: the page shows up to "
            f"{MOST_SUBJECTS:,}. Ask for it in SQL."
            for space in spaces
            if space not in drawn
        ]
        contents = [self._space(space) for space in drawn]
        subjects = _each_once([one.subjects for one in contents])
        rows = {(subject.kind, subject.id): row for row, subject in enumerate(subjects)}
        names = _space_names([one.row for one in contents])
        return page.Atlas(
            title=title,
            created_at=datetime.now(UTC),
            subjects=subjects,
            spaces=[
                page.SpaceMap(name=names[one.row["space"]], members=[rows[key] for key in one.subjects], **one.fields)
                for one in contents
            ],
            notes=notes,
            failures=list(failures),
            store=self.store.address,
            commands=contents[0].commands if contents else [],
        )

    def failures(self, but_of: str | None = None) -> list[page.Failure]:
        """What failed in the last pipeline run of each study, except one."""
        found = []
        for row in self._rows(
            "SELECT study, failures FROM runs WHERE flow = 'pipeline' "
            "QUALIFY row_number() OVER (PARTITION BY study ORDER BY created_at DESC) = 1 ORDER BY study"
        ):
            if row["study"] != but_of:
                failures = json.loads(row["failures"])
                found += [page.Failure(f["subject"], f"{row['study']}, {f['stage']}: {f['reason']}") for f in failures]
        return found

    def _space(self, space: str) -> SpaceContents:
        if space not in self._contents:
            self._contents[space] = self._read(summarise(self.store, space))
        return self._contents[space]

    def _read(self, summary: SpaceSummary) -> SpaceContents:
        row, population = summary.space, list(summary.population)
        space = row["space"]
        layout = layout_of(self.store, space, population, summary.frame)
        made = {(e.kind, e.subject): e.row["created_at"] for e in population}
        subjects = {key: (made[key], subject) for key, subject in self._subjects.of(summary).items()}
        fields = {
            "id": space,
            "about": ", ".join([f"{row['method']} on {_surrogate(row)}", *self._pool_in_words(row["pool"])]),
            "similarities": layout.similarities,
            "projections": layout.projections,
            "tree": layout.tree,
            "nearest": [_nearest(summary, e) for e in population],
            "legend": legend(summary.frame, row["method"]),
            "notes": list(self.notes.get(space, ())),
        }
        return SpaceContents(
            row, fields, subjects, [page.Command(*told) for told in next_commands(self.store, summary)]
        )

    def _pool_in_words(self, pool: str) -> list[str]:
        found = self._rows("SELECT n_rows FROM pools WHERE pool = $pool", {"pool": pool})
        return [f"a pool of {row['n_rows']:,} texts" for row in found]

    def _rows(self, sql: str, parameters: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        return self._catalog.query(sql, parameters).records()

    @cached_property
    def _sizes(self) -> dict[str, int]:
        rows = self._rows("SELECT space, count(DISTINCT (kind, subject)) AS n FROM embeddings GROUP BY space")
        return {row["space"]: row["n"] for row in rows}


def write_store_page(reader: AtlasReader, failures: Sequence[page.Failure]) -> Path:
    """Write the page of the whole store; returns its path.

    Raises:
        NotInStoreError: nothing is embedded in it.
    """
    store, spaces = reader.store, reader.spaces()
    if not spaces:
        raise NotInStoreError(f"nothing is embedded in {store.address}; run a study that stores there, then ask again")
    name = "/".join(store.address.rstrip("/").split("/")[-2:])
    shown = reader.atlas(f"All studies in {name}", spaces, failures)
    return store.put_report("store.html", render_atlas(shown))


def next_commands(store: Store, summary: SpaceSummary) -> list[tuple[str, str]]:
    """Commands to try next; each works as printed, also where the environment is not activated."""
    fute, mlflow, prefect = map(_program, ("fute", "mlflow", "prefect"))
    dataset = next((e.subject for e in summary.population if e.kind == "dataset"), summary.population[0].subject)
    subject = dataset.replace("'", "''")
    # Absent where runs are tracked elsewhere or not at all: the command would make an empty one.
    runs = store.root / TRACKING_FILE
    ui = f"{mlflow} ui --host 127.0.0.1 --port 5000 --backend-store-uri"
    matched = f"{fute} match --store {shlex.quote(store.address)} {shlex.quote(dataset)}"
    asked = ("how often will each model be right? (a dataset, or a labelled file of yours)", matched)
    return [
        *([] if has_no_model(summary.space["surrogate"]) else [asked]),
        (
            "ask in SQL",
            f"{fute} sql --store {shlex.quote(store.address)} \"SELECT * FROM nearest('{subject}', k := 3)\"",
        ),
        *([("look at the runs in MLflow", f"{ui} {shlex.quote(default_uri(store.root))}")] if runs.is_file() else []),
        ("look at the flows in Prefect", f"{prefect} server start --host 127.0.0.1"),
    ]


def own_file_command(store: Store) -> str:
    """`fute match` on a file of one's own."""
    return f"{_program('fute')} match --store {shlex.quote(store.address)} FILE.csv"


def _program(name: str) -> str:
    return name if shutil.which(name) else shlex.quote(str(Path(sys.executable).parent / name))


def _each_once(spaces: Iterable[Mapping[Key, tuple[datetime, page.Subject]]]) -> list[page.Subject]:
    """Each subject as its newest embedding knows it, with its history in all of these spaces."""
    found: dict[Key, tuple[datetime, page.Subject]] = {}
    history: dict[Key, list[page.Version]] = {}
    for subjects in spaces:
        for key, (made, subject) in subjects.items():
            history.setdefault(key, []).extend(subject.history)
            if key not in found or found[key][0] < made:
                found[key] = (made, subject)
    return [
        replace(subject, history=sorted(history[key], key=lambda version: version.made))
        for key, (_, subject) in sorted(found.items())
    ]


def _nearest(summary: SpaceSummary, embedding: StoredEmbedding) -> list[page.Neighbor]:
    """The nearest subjects; of a dataset those models too that will be right most often, also where its ranking, which
    keeps so many of the nearest, has no row of them."""
    kind, subject = embedding.kind, embedding.subject
    judged = summary.accuracies.get(subject, {}) if kind == "dataset" else {}
    best = [model for model, _ in summary.most_right(subject)[:NEAREST]] if judged else []
    better = {model for model, _ in summary.better(subject)} if judged else set()
    candidates = ("model",) if kind == "dataset" else ("dataset", "model")
    every = [row for of in candidates for row in summary.nearest(kind, subject, of, len(summary.population))]
    near = [row for row in every if row["rank"] <= NEAREST or row["candidate"] in best]
    found = [_neighbor(row) for row in sorted(near, key=lambda row: -shown_score(row))]
    found += [page.Neighbor(model, "model") for model in best if model not in {one.id for one in found}]
    if not judged:  # a model; a target that is no classes; a store of an earlier version
        return found
    return [one._replace(accuracy=_accuracy(judged.get(one.id), one.id in better)) for one in found]


def _neighbor(row: Mapping[str, Any]) -> page.Neighbor:
    return page.Neighbor(
        row["candidate"], row["candidate_kind"], shown_score(row), row["ci_low"], row["ci_high"], row["verdict"]
    )


def _accuracy(row: Mapping[str, Any] | None, better: bool) -> page.Accuracy:
    if row is None or row["expected_accuracy"] is None:
        return page.Accuracy(unknown="not looked at" if row is None else row["accuracy_unknown"])
    told = (row["expected_accuracy"], row["accuracy_low"], row["accuracy_high"])
    return page.Accuracy(*told, better=better, always=row["most_frequent"], majority=row["majority"])


def _space_names(spaces: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """By id: the method, and as much more as tells several of one method apart."""
    told = {
        row["space"]: (row["method"], _surrogate(row), f"since {row['created_at']:%Y-%m-%d %H:%M}", row["space"][:6])
        for row in spaces
    }
    alike = Counter(parts[:n] for parts in told.values() for n in range(1, 5))
    return {
        space: ", ".join(next((parts[:n] for n in range(1, 5) if alike[parts[:n]] == 1), parts))
        for space, parts in told.items()
    }


def _surrogate(space: Mapping[str, Any]) -> str:
    return str(space["surrogate"]).rpartition(":")[2] if space["surrogate"] != NONE else "no surrogate"
