"""Is it worth it? All three methods on the same tasks, zoo and pool: retrieval, seeds, and transfer source selection.

Retrieval is measured twice: by scores in the frame that each method's space gets from the pool's own pseudo-tasks, and
by plain cosines of the vectors.

    python benchmarks/quality.py                     # one split, one seed
    python benchmarks/quality.py --splits 0 1 2 --methods crosscov
    python benchmarks/quality.py --seeds 0 1 2 3 4 --few     # how much the seed alone moves a ranking

Needs the shared data (FUTE_SHARED, or ../shared beside the checkout). A split decides which rows train the zoo and
which make the dataset embeddings, and the pool; a seed is the method's own. Vectors are kept in --cache as they are
made, so a run that was ended goes on. Transfer scores are read from results/transfer_scores.json, which
benchmarks/transfer.py wrote.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from baselines import BagOfWords, random_vectors
from command import as_run, write_record
from numpy.typing import NDArray
from population import Stopwatch, Vectors, model_refs, train_zoos
from rankings import Measures, Similarities, over_seeds, table
from real_tasks import Task, labelled_rows, manifest, read_task, real_pool, split_rows, task_lists
from retrieval import scored
from sklearn.preprocessing import normalize
from threadpoolctl import threadpool_limits
from transfer_scores import load_scores
from zoo import ARCHITECTURES

from fute.config import SurrogateConfig
from fute.evaluate.transfer import evaluate_selection
from fute.evaluate.transfer_scores import TransferScores
from fute.methods.crosscov.config import CrosscovConfig
from fute.methods.embedder import Embedder
from fute.methods.taskemb.config import TaskembConfig
from fute.methods.tupate.config import TupateConfig
from fute.space import open_space, space_id
from fute.surrogate.features import compute_features
from fute.surrogate.identity import surrogate_identity
from fute.surrogate.load import load_surrogate
from fute.types import Features, Floats, Outputs, Pool
from fute.unify.frame import FRAME_VERSION, Frame, embed_pseudo_tasks
from storage.stamp import code_version
from storage.store import Store

HERE = Path(__file__).parent
# Those tasks of benchmarks/transfer.py of which the retrieval benchmark says that they can be learned.
TASKS = (
    "ag_news", "cr", "emotion", "hate_forum", "scicite", "trec_coarse", "mag_field", "rotten_tomatoes",
    "semeval2017_sentiment", "subj", "tweeteval_emotion", "tweeteval_hate", "yahoo_answers_topics",
)  # fmt: skip
DATASETS_ONLY = ("financial_phrasebank", "tweeteval_offensive", "meld_emotion")
"""Tasks of benchmarks/transfer.py that are embedded as datasets, without a zoo."""
FEW = 6
ROWS, FEWER_ROWS = 1000, 300
TRAINED = {"max_rows": ROWS, "max_tokens": 48}
"""What tupate reads of the pool and of a dataset: as much as two cores do for a zoo within the hour."""
TRAINED_WHOLE = {"max_rows": FEWER_ROWS, "max_tokens": 48}
"""taskemb trains all weights, three times over: fewer rows in the same time."""
ONE_CHANGE = {
    "own random start": {"start": "own"},
    "own random start, raw prefix": {"start": "own", "embedding": "raw"},
    "binary cross-entropy": {"loss": "binary_cross_entropy"},
    "one token's state": {"pooling": "token"},
    "learning rate 1e-3": {"learning_rate_model": 1e-3},
    "prefix dropout 0.15": {"dropout": 0.15},
    "batches of 128": {"batch_size_model": 128, "epochs_model": 4},
}
"""tupate with one field as the paper has it."""
ONE_CHANGE_TASKEMB = {
    "batch": {"estimator": "batch"},
    "mean": {"estimator": "mean"},
    "raw scale": {"scale": "raw"},
    "random head": {"head_deviation": 0.02, "head_learning_rate": None},
    "binary cross-entropy": {"loss": "binary_cross_entropy"},
    "one token's state": {"pooling": "token"},
    "dropout, no warm-up": {"dropout": True, "warmup": 0.0},
}
"""The same for taskemb."""
METHODS: dict[str, Any] = {
    "crosscov": CrosscovConfig(),
    "tupate": TupateConfig.model_validate(TRAINED),
    # The paper trains on some 100,000 inputs, so in some 780 steps of 128. Here four passes give as many steps as the
    # default's one pass in batches of 32; six bound the passes over a dataset beside early stopping.
    "tupate, paper": TupateConfig.model_validate(
        {**TRAINED, "preset": "paper", "epochs_model": 4, "epochs_dataset": 6}
    ),
    f"tupate, {FEWER_ROWS} rows": TupateConfig.model_validate(TRAINED_WHOLE),
    "taskemb": TaskembConfig.model_validate(TRAINED_WHOLE),
    "taskemb, paper": TaskembConfig.model_validate({**TRAINED_WHOLE, "preset": "paper"}),
    **{f"tupate, {name}": TupateConfig.model_validate({**TRAINED, **change}) for name, change in ONE_CHANGE.items()},
    **{
        f"taskemb, {name}": TaskembConfig.model_validate({**TRAINED_WHOLE, **change})
        for name, change in ONE_CHANGE_TASKEMB.items()
    },
}
MAIN = ("crosscov", "tupate", "tupate, paper", f"tupate, {FEWER_ROWS} rows", "taskemb")


@dataclass
class Measured:
    """What was found of one method, a value for each split and seed."""

    retrieval: list[Measures] = field(default_factory=list)
    no_frame: list[Measures] = field(default_factory=list)
    similarities: list[Similarities] = field(default_factory=list)
    selection: list[dict[str, dict[str, float]]] = field(default_factory=list)
    seconds: float = 0.0
    asked: int = 0

    @property
    def seconds_a_subject(self) -> float:
        return self.seconds / max(1, self.asked)


def main() -> None:
    options = _options()
    shared = Path(os.environ.get("FUTE_SHARED", HERE.parents[1] / "shared"))
    watch = Stopwatch()
    entries = manifest(shared)
    learnable, tried = task_lists(shared)
    everything = [read_task(shared, entries[name]) for name in dict.fromkeys([*learnable, *tried])]
    by_id = {task.id: task for task in everything}
    tasks = [by_id[name] for name in (TASKS[:FEW] if options.few else TASKS)]
    others = [] if options.few else [by_id.get(i) or read_task(shared, entries[i]) for i in DATASETS_ONLY]
    plain = load_surrogate(SurrogateConfig(device=options.device), HERE)
    store = Store(options.cache)
    features = store.cached_features(plain.id, lambda inputs: compute_features(plain, inputs))
    # The same pool as the retrieval benchmark's, so that its features and the zoo's answers are found in the cache.
    pools = {split: real_pool(shared, "loose", split, everything) for split in options.splits}
    with threadpool_limits(1):
        train_zoos(tasks, pools, features, store, plain.width, watch)
    scores = None if options.few or not options.transfer.exists() else load_scores(options.transfer)
    found = {name: Measured() for name in options.methods}
    baselines: dict[str, list[Measures]] = {}
    words_selection: list[dict[str, dict[str, float]]] = []
    for split, pool in pools.items():
        for name, measured in found.items():
            method = METHODS[name]
            # Precision of training: bfloat16 where the processor has it.
            config = SurrogateConfig(device=options.device, dtype="float32" if name == "crosscov" else "auto")
            for seed in options.seeds:
                kept = KeptVectors(options.cache / "quality", method, config, pool, seed)
                open_embedder = partial(_embedder, method, config, features, pool, seed)
                asked = partial(answers_of, store, pool.id, renumber=options.renumber)
                vectors, strangers = embed_all(tasks, others, split, asked, kept, open_embedder)
                measured.seconds += kept.seconds
                measured.asked += kept.asked
                frame = frame_of(kept, open_embedder, features, pool, seed)
                placed = vectors.placed(frame)
                ids, families = [t.id for t in tasks], [t.family for t in tasks]
                similar = scored(ids, families, frame, placed)
                measured.retrieval.append(similar.measure())
                plain_vectors = Similarities.of(ids, families, normalize(vectors.datasets), normalize(vectors.models))
                measured.no_frame.append(plain_vectors.measure())
                measured.similarities.append(similar)
                if scores is not None:
                    everybody = np.concatenate([placed.datasets, strangers.placed(frame).datasets])
                    names = [t.id for t in [*tasks, *others]]
                    measured.selection.append(select_sources(scores, dict(zip(names, everybody, strict=True))))
                print(f"{name}, split {split}, seed {seed}: {measured.seconds_a_subject:.2f} s a subject", flush=True)
        words = BagOfWords(pool.inputs)
        for name, similar in _baselines(words, tasks, pool, split, store).items():
            baselines.setdefault(name, []).append(similar.measure())
        if scores is not None:
            by_words = {t.id: words.dataset(t.inputs.take(split_rows(t, split).dataset)) for t in [*tasks, *others]}
            words_selection.append(select_sources(scores, by_words))
    summary = {name: over_seeds(m.retrieval) for name, m in found.items()}
    summary |= {f"{name}, no frame": over_seeds(m.no_frame) for name, m in found.items()}
    summary |= {name: over_seeds(runs) for name, runs in baselines.items()}
    title = f"{len(tasks)} tasks x {len(ARCHITECTURES)}, splits {options.splits}, seeds {options.seeds}"
    print("\n" + table(title, summary))
    print("\nseconds of one subject: " + ", ".join(f"{name} {m.seconds_a_subject:.2f}" for name, m in found.items()))
    moved = {name: moved_by_seed(m.similarities) for name, m in found.items() if len(options.seeds) > 1}
    for name, value in moved.items():
        print(f"{name}: correlation of similarities between two seeds {value['correlation']:.3f}, "
              f"same first candidate {value['same_first']:.3f}")  # fmt: skip
    selection = {}
    if scores is not None:
        selection = {name: _mean_of(m.selection) for name, m in found.items()}
        selection |= {"bag of words": _mean_of(words_selection), "chance": by_chance(scores)}
        print("\n" + selection_table(selection))
    record = {
        "command": as_run(__file__),
        "settings": {
            "tasks": [t.id for t in tasks], "splits": options.splits, "seeds": options.seeds,
            "renumbered": options.renumber,
            "methods": {name: METHODS[name].identity() for name in options.methods},
        },
        "versions": {n: version(n) for n in ("fute", "numpy", "torch", "transformers")}
        | {"python": platform.python_version()},
        "git_commit": code_version(),
        "retrieval": summary, "seconds_a_subject": {name: m.seconds_a_subject for name, m in found.items()},
        "moved_by_seed": moved, "transfer": selection,
    }  # fmt: skip
    write_record(record, options.out)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(MAIN))
    parser.add_argument("--splits", type=int, nargs="+", default=[0], help="which rows train what, and the pool")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="the method's own seeds")
    parser.add_argument("--few", action="store_true", help=f"the first {FEW} tasks only")
    parser.add_argument(
        "--renumber", action="store_true", help="number each model's classes otherwise than its dataset's"
    )
    parser.add_argument("--cache", type=Path, default=HERE / ".cache")
    parser.add_argument("--device", default="auto", help="for the surrogate: auto, cpu, cuda, mps")
    parser.add_argument("--transfer", type=Path, default=HERE / "results/transfer_scores.json")
    parser.add_argument("--out", type=Path, default=HERE / "results/quality.json")
    return parser.parse_args()


def _embedder(method: Any, surrogate: SurrogateConfig, features: Features, pool: Pool, seed: int) -> Embedder:
    return open_space(method, lambda: load_surrogate(surrogate, HERE, whole=True), features, pool, seed)


class KeptVectors:
    """Vectors of one space on disk, made when they are first asked for."""

    def __init__(self, folder: Path, method: Any, surrogate: SurrogateConfig, pool: Pool, seed: int) -> None:
        self._folder = folder / space_id(surrogate_identity(surrogate, HERE), method, pool.id, seed)
        self.seconds = 0.0
        self.asked = 0

    def get(self, name: str, make: Callable[[], Floats], *, subjects: int = 1) -> Floats:
        """A vector by its name; the seconds that making it took count even where it was kept.

        Args:
            subjects: how many it is counted as; 0: neither it nor its seconds are.
        """
        file = self._folder / f"{name.replace('/', '~')}.npz"
        if not file.exists():
            started = time.perf_counter()
            vector = make()
            self._folder.mkdir(parents=True, exist_ok=True)
            unfinished = file.with_suffix(".unfinished.npz")
            np.savez(unfinished, vector=vector, seconds=time.perf_counter() - started)
            unfinished.rename(file)
        kept = np.load(file)
        self.seconds += float(kept["seconds"]) if subjects else 0.0
        self.asked += subjects
        return kept["vector"]


def frame_of(
    kept: KeptVectors, open_embedder: Callable[[], Embedder], features: Features, pool: Pool, seed: int
) -> Frame:
    """The frame of the space, made once."""

    def make() -> Floats:
        made = embed_pseudo_tasks(open_embedder(), features, pool, seed)
        if made is None:
            raise SystemExit("the pool has no pseudo-tasks")
        return np.stack([made["datasets"], made["models"]])

    return Frame.of(*kept.get(f"pseudo-tasks, version {FRAME_VERSION}", make, subjects=0))


def embed_all(
    tasks: Sequence[Task],
    others: Sequence[Task],
    split: int,
    answers: Callable[[str], tuple[str, Outputs]],
    kept: KeptVectors,
    open_embedder: Callable[[], Embedder],
) -> tuple[Vectors, Vectors]:
    """Every dataset and every model of its zoo; and datasets without a zoo."""
    opened: list[Embedder] = []

    def embedder() -> Embedder:
        if not opened:
            opened.append(open_embedder())
        return opened[0]

    def of_model(ref: str) -> Floats:
        name, outputs = answers(ref)
        return kept.get(name, lambda: embedder().model(outputs).vector)

    def of_dataset(task: Task) -> Floats:
        rows = split_rows(task, split).dataset
        return kept.get(f"{task.id}, split {split}", lambda: embedder().dataset(labelled_rows(task, rows)).vector)

    datasets = np.stack([of_dataset(task) for task in tasks])
    models = np.stack([of_model(ref) for task in tasks for ref in model_refs(task, split, "main")])
    strangers = np.stack([of_dataset(t) for t in others]) if others else np.zeros((0, datasets.shape[1]), np.float32)
    return Vectors(datasets, models), Vectors(strangers, models[:0])


def answers_of(store: Store, pool: str, ref: str, *, renumber: bool) -> tuple[str, Outputs]:
    """A model's answers, and what to call them.

    Args:
        renumber: with the classes moved up by one. Models here number their classes as their datasets do, which says
            nothing of what they can do, but is there for a method to see.
    """
    outputs = store.outputs(pool, ref)
    if not renumber:
        return ref, outputs
    names = outputs.label_names and (*outputs.label_names[-1:], *outputs.label_names[:-1])
    return f"{ref}, renumbered", replace(outputs, values=np.roll(outputs.values, 1, axis=1), label_names=names)


def select_sources(scores: TransferScores, vectors: dict[str, Floats]) -> dict[str, dict[str, float]]:
    """How well cosines of datasets foretell from which transfer pays, among all sources and among the family's.

    The dataset embeddings are made of some 700 labelled rows, the transfer itself has 32: this asks what the vectors
    know, not what they know from 32 rows.
    """
    return _selection(scores, np.array([[vectors[s] @ vectors[t] for t in scores.targets] for s in scores.sources]))


def by_chance(scores: TransferScores) -> dict[str, dict[str, float]]:
    return _selection(scores, np.zeros(scores.mean_scores.shape))


def _selection(scores: TransferScores, similarity: NDArray[np.floating]) -> dict[str, dict[str, float]]:
    """Ties count as random order, so equal similarities give chance."""
    found = {}
    for name, allowed in (("all sources", None), ("of its family", scores.same_family)):
        by_gain = {
            gain: evaluate_selection(
                scores.mean_scores, similarity, baseline=scores.mean_baseline, allowed=allowed, gain=gain
            )
            for gain in ("exponential", "relative")
        }
        one = by_gain["relative"]
        found[name] = {
            **{measure: float(getattr(one, measure)) for measure in ("best_rank", "regret", "pick_gain", "targets")},
            "ndcg": by_gain["exponential"].ndcg,
            "ndcg_relative": one.ndcg,
        }
    return found


def _mean_of(runs: Sequence[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    return {k: {m: float(np.mean([run[k][m] for run in runs])) for m in runs[0][k]} for k in runs[0]}


def selection_table(rows: dict[str, dict[str, dict[str, float]]]) -> str:
    """Rank of the best source, NDCG (gain 2^score - 1; gain 0 for the worst to 1 for the best source), regret of the
    first pick, and what it gains over no source, for each method."""
    lines = ["transfer source selection"]
    for kind in next(iter(rows.values())):
        lines.append(f"{kind:<32}{'best rank':>10}{'NDCG':>8}{'NDCG 0-1':>10}{'regret':>9}{'gain':>8}{'targets':>9}")
        for name, found in rows.items():
            m = found[kind]
            values = f"{m['best_rank']:>10.2f}{m['ndcg']:>8.3f}{m['ndcg_relative']:>10.3f}{m['regret']:>9.3f}"
            lines.append(f"  {name:<30}{values}{m['pick_gain']:>8.3f}{m['targets']:>9.0f}")
    return "\n".join(lines)


def _baselines(
    words: BagOfWords, tasks: Sequence[Task], pool: Pool, split: int, store: Store
) -> dict[str, Similarities]:
    datasets = np.stack([words.dataset(t.inputs.take(split_rows(t, split).dataset)) for t in tasks])
    models = np.stack([words.model(store.outputs(pool.id, r)) for t in tasks for r in model_refs(t, split, "main")])
    names, families = [t.id for t in tasks], [t.family for t in tasks]
    return {
        "bag of words": Similarities.of(names, families, datasets, models),
        "random": random_vectors(names, families, split),
    }


def moved_by_seed(found: Sequence[Similarities]) -> dict[str, float]:
    """How alike dataset-to-model similarities of two seeds are, and how often both put the same model first."""
    pairs = [(a.dataset_model, b.dataset_model) for i, a in enumerate(found) for b in found[:i]]
    return {
        "correlation": float(np.mean([np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in pairs])),
        "same_first": float(np.mean([(a.argmax(axis=1) == b.argmax(axis=1)).mean() for a, b in pairs])),
    }


if __name__ == "__main__":
    main()
