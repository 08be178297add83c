"""The small store that docs/sql.md is answered from: made through the normal writers, with a clock of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import patch

import numpy as np

from fute.drift import Baseline
from fute.llm.prompts import Template
from fute.llm.types import Answer, ChatRequest, Message
from fute.types import Dataset, Kind, Outputs, Pool, Split, TaskEmbedding, TextTable
from fute.unify.frame import Frame, similarities, verdict
from fute.unify.neighbors import ranked as ranked_rows
from storage import stamp
from storage.accuracies import put_accuracies
from storage.drift import DriftStore
from storage.nearest import ACCURACY
from storage.responses import ResponseStore
from storage.retirements import retire
from storage.stamp import Stamp
from storage.store import Store, to_json
from storage.vectors import VectorStore
from tests.storage.small_store import ranked

FIRST_DAY = datetime(2026, 3, 2, 2, 0, tzinfo=UTC)
COMMIT = "1f5c0de"
SPACE = "minilm-crosscov"

REVIEWS = {
    "good": ["a film to love", "warm and funny", "the best of the year"],
    "bad": ["dull from the start", "a waste of an evening", "no idea of its own"],
}
TICKETS = {
    "billing": ["the invoice is wrong", "charged twice in May"],
    "access": ["the password is refused", "locked out again"],
}
PROMPTS = {
    "plain": "Is this review good or bad? {{text}}",
    "terse": "{{text}}\nGood or bad:",
}
USD_A_CALL = {"plain": 0.0004, "terse": 0.0001}
# What each prompt says of the six reviews; the tickets it calls bad.
SAID = {"plain": "good good good bad bad bad", "terse": "good bad good bad bad good"}

VECTORS: dict[tuple[Kind, str], list[float]] = {
    ("dataset", "reviews"): [0.9, 0.1, 0.3],
    ("dataset", "tickets"): [0.1, 0.9, 0.3],
    ("model", "tfidf/reviews"): [0.8, 0.2, 0.3],
    ("model", "tfidf/tickets"): [0.2, 0.8, 0.35],
    ("model", "plain/api"): [0.85, 0.05, 0.4],
    ("model", "terse/api"): [0.84, 0.06, 0.41],
}
PSEUDO_TASKS = 60
EARLIER = [[0.3, 0.6, 0.3], [0.6, 0.4, 0.3]]  # of tfidf/reviews, trained on fewer rows


class Clock:
    """Says a time of its own; a day later after each `tomorrow`."""

    def __init__(self) -> None:
        self.time = FIRST_DAY

    def now(self, zone: object) -> datetime:
        return self.time

    def tomorrow(self) -> None:
        self.time += timedelta(days=1)


@contextmanager
def fixed_time() -> Iterator[Clock]:
    clock = Clock()
    with (
        patch.object(stamp, "datetime", clock),
        patch.object(stamp, "code_version", lambda: COMMIT),
        patch("storage.answer_rows.time.time_ns", lambda: int(clock.time.timestamp() * 1e9)),
    ):
        yield clock


def write_docs_store(root: Path) -> Store:
    """Three nightly runs over two datasets, two trained models and two prompts."""
    store = Store(root)
    with fixed_time() as clock:
        runs = [Stamp(f"mlflow-{i}", f"prefect-{i}") for i in (1, 2, 3)]
        pool = _data(store, runs[0])
        _models(store, pool, runs[0])
        vectors = VectorStore(store)
        space = {"space": SPACE, "method": "crosscov", "surrogate": "all-MiniLM-L6-v2", "revision": "0.1.0",
                 "pool": pool, "seed": 0, "settings": to_json({"components": 64})}  # fmt: skip
        vectors.put_space(space, runs[0])
        for version, (run, values) in enumerate(zip(runs, [*EARLIER, None], strict=True), start=1):
            for (kind, subject), newest in VECTORS.items():
                if values is None or subject == "tfidf/reviews":
                    _embed(vectors, space, kind, subject, values or newest, version, run)
            _run(store, "nightly", run, 40.0 - 10 * version, [] if version != 2 else [{"subject": "vendor"}])
            clock.tomorrow()
        _ask(store, pool, runs[2])
        _unify(vectors, runs[2])
        _judge(store, runs[2])
        _watch(store, pool, runs[2])
        vectors.put_alignment(
            "alignment-1",
            {"space_a": "mpnet-crosscov", "space_b": SPACE, "version": 1, "fidelity": 0.97, "tasks": 60,
             "mapped_model_first": 0.49, "mapped_dataset_first": 0.59, "own_model_first": 0.51,
             "own_dataset_first": 0.61, "shared": 6, "shared_first": 6, "axes_a": 2, "matrix": [1.0, 0.0, 0.0, 1.0]},
            runs[2],
        )  # fmt: skip
        transfer = [
            {"space": None, "subject": "tickets", "candidate": "reviews", "seed": 0, "measure": "accuracy",
             "value": value, "settings": "{}", "details": None}
            for value in (0.75,)
        ]  # fmt: skip
        store.put_evaluations("transfer", transfer, runs[2])
        retire(store, [("model", "terse/old")], runs[2])
    return store


def _texts(rows: dict[str, list[str]]) -> tuple[list[str], np.ndarray]:
    texts = [text for group in rows.values() for text in group]
    return texts, np.array([i for i, group in enumerate(rows.values()) for _ in group])


def _data(store: Store, run: Stamp) -> str:
    for name, rows, family in (("reviews", REVIEWS, "sentiment"), ("tickets", TICKETS, "support")):
        texts, labels = _texts(rows)
        splits = {"train": Split(TextTable(texts), labels), "test": Split(TextTable(texts[:1]), labels[:1])}
        dataset = Dataset(name, "classification", splits, f"{name}-1", tuple(rows), {"file": f"{name}.parquet"}, {})
        store.put_dataset(dataset, family=family, stamp=run)
    texts = [*_texts(REVIEWS)[0], *_texts(TICKETS)[0][:2]]
    sources = ["film forum"] * 6 + ["help desk"] * 2
    return store.put_pool(Pool(TextTable(texts), sources, {"kept": 8}), run)


def _models(store: Store, pool: str, run: Stamp) -> None:
    for prompt, template in PROMPTS.items():
        row = {"id": prompt, "template": template, "system": None, "cot": False, "follow_up": None, "answer": "label",
               "parse": "word", "verbalizer": to_json({"good": ["good"], "bad": ["bad"]})}  # fmt: skip
        store.put_prompt(row, run)
    for subject, kind, task, score in (
        ("tfidf/reviews", "trained tfidf", "reviews", 0.83), ("tfidf/tickets", "trained tfidf", "tickets", 0.91),
        ("plain/api", "prompt", "reviews", None), ("terse/api", "prompt", "reviews", None),
    ):  # fmt: skip
        name, _, of = subject.partition("/")
        settings = {"kind": "trained"}
        if kind == "prompt":
            settings = {"kind": kind, "prompt": name, "endpoint": of, "service": "hosted", "llm": "small"}
        row = {"ref": f"{subject}@1", "id": subject, "fingerprint": "1", "kind": kind, "task": task,
               "settings": json.dumps(settings), "score": score, "score_name": "accuracy" if score else None,
               "majority": 0.5 if score else None}  # fmt: skip
        store.put_model(row, run)
        labels = ("billing", "access") if subject == "tfidf/tickets" else ("good", "bad")
        said = [labels.index(word) for word in SAID.get(name, "good good good bad bad bad").split()] \
            if labels[0] == "good" else [0, 0, 1, 1, 0, 1]  # fmt: skip
        values = np.eye(2, dtype=np.float32)[[*said, 1, 1]] * 0.8 + 0.1
        keys = [[asked(name, text).key] for text in store.pool(pool).inputs.texts] if kind == "prompt" else None
        store.put_outputs(pool, f"{subject}@1", Outputs("probabilities", values, labels, answer_keys=keys), run)


def _embed(
    vectors: VectorStore, space: dict[str, object], kind: Kind, subject: str, values: list[float], version: int,
    run: Stamp,
) -> None:  # fmt: skip
    row = {**space, "kind": kind, "fingerprint": f"{kind}-{subject.replace('/', '-')}-{version}", "subject": subject,
           "subject_fingerprint": str(version), "task": subject.partition("/")[2] or subject,
           "subject_kind": "classification" if kind == "dataset" else
           "trained tfidf" if subject.startswith("tfidf") else "prompt"}  # fmt: skip
    vectors.put(row, TaskEmbedding(np.array(values, np.float32), {"rows": 8.0}), run)


def _run(store: Store, study: str, run: Stamp, seconds: float, failures: list[dict[str, str]]) -> None:
    row = {"study": study, "flow": "pipeline", "state": "CompletedWithFailures" if failures else "Completed",
           "seconds": seconds, "spaces": [SPACE], "failures": to_json(failures), "settings": "{}",
           "report": None}  # fmt: skip
    store.put_run(row, run)


def asked(prompt: str, text: str, service: str = "hosted", llm: str = "small") -> ChatRequest:
    question = Template(PROMPTS[prompt]).render(text)
    return ChatRequest(service, "https://llm.example/v1", llm, (Message("user", question),))


def _ask(store: Store, pool: str, run: Stamp) -> None:
    texts = store.pool(pool).inputs.texts
    with ResponseStore(store.root / "responses") as responses:
        for prompt in PROMPTS:
            said = [*SAID[prompt].split(), "bad", "bad"]
            for text, word in zip(texts, said, strict=True):
                answer = Answer(word, None, 12, 1, 80.0, "small-2026-02", "stop")
                responses.put(asked(prompt, text), answer, USD_A_CALL[prompt], run)
        responses.export()


def _unify(vectors: VectorStore, run: Stamp) -> None:
    population = vectors.population(SPACE)
    kinds = [e.kind for e in population]
    # Pseudo-tasks: a common part, little of what tells the subjects apart, and each model like its dataset.
    rng = np.random.default_rng(1)
    datasets = rng.normal(size=(PSEUDO_TASKS, 3)) * 0.1 + [0.5, 0.5, 0.3]
    datasets[:, 2] += np.tile([1, -1], PSEUDO_TASKS // 2)
    frame = Frame.of(*(np.float32(v) for v in (datasets, datasets + 0.1 * rng.normal(size=datasets.shape))))
    vectors.put_frame(SPACE, frame, run)
    placed = frame.place([e.vector for e in population])
    cosines, chance = similarities(placed), frame.chance(placed)
    found = ranked_rows(chance.scores(cosines, kinds), cosines, kinds, 10)
    p_values = [frame.nulls[kinds[n.query], kinds[n.candidate]].p_value(n.score, n.candidates) for n in found]
    rows = [
        {
            "space": SPACE,
            "query": population[n.query].subject,
            "query_kind": kinds[n.query],
            "candidate": population[n.candidate].subject,
            "candidate_kind": kinds[n.candidate],
            "rank": n.rank,
            "score": max(0.0, n.score),
            "p_value": p,
            "verdict": verdict(p),
            "similarity": float(cosines[n.query, n.candidate]),
        }
        for n, p in zip(found, p_values, strict=True)
    ]
    vectors.put_ranking(SPACE, "unified-1", ranked(*rows), population, chance, run)


def _judge(store: Store, run: Stamp) -> None:
    space = VectorStore(store).space(SPACE)
    known = {("reviews", "tfidf/reviews"): (0.83, 0.77, 0.9), ("reviews", "plain/api"): (0.78, 0.7, 0.86),
             ("tickets", "tfidf/tickets"): (0.91, 0.84, 0.95)}  # fmt: skip
    rows = [
        {"dataset": f"{dataset}@3", "model": f"{model}@3", "most_frequent": label, "majority": 0.5,
         "texts": 100, "split": "test", "turned": False, "meaning": "{}"}
        | ({"accuracy_unknown": "its answers on the pool do not say what it answers on other texts", "agreement": 0.1}
           if (dataset, model) not in known else
           {"agreement": 0.8, **dict(zip(ACCURACY[:3], known[dataset, model], strict=True))})
        for dataset, label in (("reviews", "good"), ("tickets", "billing"))
        for kind, model in VECTORS if kind == "model"
    ]  # fmt: skip
    put_accuracies(store, space, rows, run)


def _watch(store: Store, pool: str, run: Stamp) -> None:
    checks = DriftStore(store)
    answered = np.ones((2, 2), bool)
    values = np.array([[[0.9, 0.1], [0.2, 0.8]], [[0.9, 0.1], [0.3, 0.7]]], np.float32)
    baseline = Baseline(values, answered)
    served = ["model plain-0613"]
    name = checks.put_baseline(
        "plain/api@1", "panel", [0, 3], baseline, run, study="nightly", settings={}, served=served
    )
    row = {"study": "nightly", "model": "plain/api", "model_ref": "plain/api@1", "pool": pool, "panel": "panel",
           "baseline": name, "tier": "panel", "state": "changed", "drifted": True, "changed": [], "p_value": 0.0003,
           "reasons": ["the label changed on 7.0% (4.2% to 10.9%) of your texts, most often good to bad"],
           "asked": [32, 256], "label_changed": [2, 18], "moved": [3, 25], "noise": 0.007, "share": 0.07,
           "share_low": 0.042, "share_high": 0.109, "detectable": 0.103, "turns": ["good to bad: 15"], "rows": 256,
           "answered": 1.0, "calls": 288, "served": served, "panel_answered": [True, True],
           "panel_labels": [0, 0]}  # fmt: skip
    checks.put_check(row, run)
