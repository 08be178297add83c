"""What `fute ls` and `fute show` say, as rows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fute.did_you_mean import did_you_mean
from fute.errors import NotInStoreError, StoreError
from fute.types import Kind
from storage import catalog
from storage.retirements import SubjectKey
from storage.views import COMMENTS, MACRO_NAMES

# The columns that fit a terminal.
LISTED = {
    "datasets": "id, task, family, n_train, n_validation, n_test, len(label_names) AS classes, fingerprint, created_at",
    "pools": "pool, n_rows, n_sources, n_pairs, created_at",
    "models": "id, kind, task, score, majority, fingerprint, created_at",
    "prompts": "id, template, verbalizer, created_at",
    "spaces": "space, method, surrogate, pool, seed, created_at",
    "embeddings": "subject, kind, subject_kind, method, dim, space, created_at",
    "runs": "study, flow, state, round(seconds, 1) AS seconds, run_id, flow_run_id, created_at",
    "drift": "created_at, model, tier, state, drifted, share, share_low, share_high, p_value, calls, baseline",
    "drift_baselines": "model, baseline, count(*) AS n_rows, max(asking) + 1 AS askings, count_if(answered) AS answers",
    "neighbors": "query, query_kind, candidate, candidate_kind, expected_accuracy, rank, score, verdict, space",
    "accuracies": "dataset, model, expected_accuracy, accuracy_low, accuracy_high, accuracy_unknown, pool, created_at",
    "members": "space, kind, subject, fingerprint, ranking, created_at",
    "member_history": "created_at, space, kind, subject, fingerprint, ranking",
    "retirements": "created_at, kind, subject, retired",
    "evaluations": "name, subject, candidate, seed, measure, value, space, created_at",
    "frames": "space, version, tasks, own_model_first, own_dataset_first, created_at",
    "alignments": "space_a, space_b, fidelity, tasks, shared, shared_first, created_at",
    "outputs": "model, pool, count(*) AS n_rows, count_if(answered) AS answered",
    "responses": "*",
    "pool_rows": "pool, row, text, text_pair, source_id",
    "dataset_rows": "dataset, split, row, text, text_pair, label, label_name",
    "prompt_answers": "prompt, model, pool, row, llm, answer, tokens_in, tokens_out, cost_usd, created_at",
    "neighbor_history": "created_at, space, query, candidate, rank, score, verdict",
}


def views(root: Path) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Every view and macro with its number of rows and what it holds."""
    rows: list[tuple[Any, ...]] = []
    with catalog.Catalog(root) as store:
        for name, comment in sorted(COMMENTS.items()):
            try:
                rows.append((name, store.query(f"SELECT count(*) FROM {name}").rows[0][0], comment))
            except StoreError as exc:  # a damaged file, which is in nobody else's way
                rows.append((name, None, str(exc)))
    rows += [(name, None, comment) for name, comment in MACRO_NAMES.items()]
    return ["view", "rows", "what it holds"], rows


def rows(root: Path, view: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    """The rows of one view, with the columns that fit a terminal."""
    if view not in LISTED:
        raise NotInStoreError(f"no view {view!r}{did_you_mean(view, LISTED)}; there are {', '.join(sorted(LISTED))}")
    order = {"neighbors": "space, query, candidate_kind, rank"}.get(view, "ALL")
    group = " GROUP BY ALL" if view in ("outputs", "drift_baselines") else ""
    # The names come from the table above, never from the user.
    answer = catalog.query(root, f"SELECT {LISTED[view]} FROM {view}{group} ORDER BY {order}")
    return answer.columns, answer.rows


_ASKED_FOR = re.compile(r"\b(nearest|most_similar|compare|near_duplicates)\s*\(([^()]*)\)", re.IGNORECASE)
_LITERAL = re.compile(r"'((?:[^']|'')*)'")
_SPACES = "SELECT space FROM spaces"
_SUBJECTS = "SELECT subject FROM embeddings"


def unknown_names(root: Path, sql: str) -> list[str]:
    """What a query asks a macro for that the store does not have: the answer is then empty, and no error."""
    told = []
    for macro, arguments in _ASKED_FOR.findall(sql):
        of_space = macro.lower() == "near_duplicates"
        names = [name.replace("''", "'") for name in _LITERAL.findall(arguments)][: 1 if of_space else 2]
        known = [name for (name,) in catalog.query(root, _SPACES if of_space else _SUBJECTS).rows]
        what = "space" if of_space else "subject"
        told += [f"no {what} {n!r} is in the store{did_you_mean(n, known)}" for n in names if n not in known]
    return told


def subjects_named(root: Path, names: Sequence[str], kind: Kind | None = None) -> set[SubjectKey]:
    """The subjects of these names in the spaces of a store.

    Raises:
        NotInStoreError: a name is nobody's.
        StoreError: it is a dataset's and a model's, and the kind is not given.
    """
    known: set[SubjectKey] = set(catalog.query(root, "SELECT DISTINCT kind, subject FROM embeddings").rows)
    found: set[SubjectKey] = set()
    for name in names:
        keys = {key for key in known if key[1] == name and kind in (None, key[0])}
        if not keys:
            others = sorted({subject for _, subject in known} - {name})
            told = did_you_mean(name, others) or "; `fute ls embeddings` lists them"
            raise NotInStoreError(f"no {kind or 'dataset or model'} {name!r} is embedded in {root}{told}")
        if len(keys) > 1:
            raise StoreError(f"a dataset and a model are called {name!r}; say which with --kind")
        found |= keys
    return found


# Where an id is looked up: a view, and the columns that may name it.
NAMED_BY = {
    "datasets": ("id", "ref", "fingerprint"),
    "models": ("id", "ref", "fingerprint"),
    "prompts": ("id", "fingerprint"),
    "pools": ("pool",),
    "spaces": ("space",),
    "runs": ("run_id", "flow_run_id"),
}


def show(root: Path, subject: str) -> dict[str, list[dict[str, Any]]]:
    """Everything the store knows under this name, by view, and the subject's nearest neighbours."""
    found: dict[str, list[dict[str, Any]]] = {}
    unread: list[StoreError] = []
    asked = {
        view.removesuffix("s"): f"SELECT * FROM {view} WHERE $subject IN ({', '.join(columns)})"
        for view, columns in NAMED_BY.items()
    }
    asked["nearest"] = "SELECT * FROM nearest($subject, k := 5)"
    with catalog.Catalog(root) as store:
        for name, query in asked.items():
            try:
                if records := store.query(query, {"subject": subject}).records():
                    found[name] = records
            except StoreError as exc:
                unread.append(exc)
    if not found:
        if unread:  # it may be in there
            raise unread[0]
        named = " UNION ".join(f"SELECT {columns[0]} FROM {view}" for view, columns in NAMED_BY.items())
        near = did_you_mean(subject, [name for (name,) in catalog.query(root, f"{named} ORDER BY 1").rows if name])
        told = near or "; `fute ls datasets`, `fute ls models` and so on list what there is"
        raise NotInStoreError(f"nothing named {subject!r} in {root}{told}")
    if unread:
        found["cannot be read"] = [{"reason": str(exc)} for exc in unread]
    return found
