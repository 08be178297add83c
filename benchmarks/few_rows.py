"""A hundred questions instead of three thousand: which rows of a pool to ask, and what to make of so few answers.

    OMP_NUM_THREADS=1 python benchmarks/few_rows.py --seeds 0 1 2

The 29 tasks, models and pools of benchmarks/retrieval.py, whose cache must hold them. Tasks are halved. Models of one
half answered the whole pool; those of the other are asked few rows, and both stand in one list of 29 datasets and 87
models. Then the halves swap. What a way must choose (a ridge) is chosen on the half known in full; the vectors of
datasets, the pool's axes and the frame are those of the whole pool, which costs no question.

Said before the judged halves were looked at: a way clearly beats another at the same number of rows where the mean of
the three directions' P@1 is higher by 0.05 or more at both 100 and 300 rows, and the 95 % intervals of both
differences, tasks resampled, lie above 0.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from claims_measures import interval
from command import as_run, write_record
from numpy.typing import NDArray
from population import PartFeatures, model_refs
from real_tasks import Task, manifest, read_task, real_pool, split_rows, task_lists
from retrieval import compute
from rivals.data_kernel import distances
from threadpoolctl import threadpool_limits
from zoo import ARCHITECTURES

from fute.config import SurrogateConfig
from fute.data.sampling import generator
from fute.match.kernel import TextKernel
from fute.methods.crosscov.config import CrosscovConfig
from fute.methods.crosscov.embed import Crosscov
from fute.methods.crosscov.root import Root, cross_covariance, to_vector, without_identity
from fute.methods.crosscov.whitening import centred_within, source_groups, unit_rows
from fute.surrogate.load import load_surrogate
from fute.types import Features, Floats, Pool
from fute.unify.frame import FITS, Frame, score
from fute.unify.pseudo_tasks import pseudo_tasks
from storage.stamp import code_version
from storage.store import Store

HERE = Path(__file__).parent
NUMBERS = (50, 100, 200, 300, 1000)
COMPARED = (100, 300)  # the numbers that all ways are tried with
DRAWS = 3
RIDGES = (0.03, 0.1, 0.3)
CANDIDATE_SETS = 32
DIRECTIONS = "dataset to model", "model to dataset", "model to model"
VERDICTS = "model to dataset: the first called a fit", "model to dataset: best of another family called a fit"
Doubles = NDArray[np.float64]
Index = NDArray[np.intp]
Estimator = Callable[["Seed", Index, Sequence[Doubles], Index], list[Doubles]]
"""(seed, asked rows, answers of all rows of which only these are read, tasks known in full) -> A of each model."""


@dataclass(eq=False)
class Seed:
    """A pool, its tasks and its models; kernels between the pool's rows have a mean diagonal of 1."""

    tasks: Sequence[Task]
    sources: NDArray[np.str_]
    whitened: Doubles
    answers: list[Doubles]
    whole: list[Doubles]
    """A of each model from the whole pool."""
    pseudo: list[tuple[Doubles, Doubles]]
    """Answers and A of the pool's own tasks."""
    datasets: Floats
    models: Floats
    frame: Frame
    features: Floats
    text: Floats
    kept: dict[str, Any] = field(default_factory=dict)

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        if name not in self.kept:
            self.kept[name] = make()
        return self.kept[name]

    @property
    def centred(self) -> Doubles:
        return self.once("centred", lambda: centred_within(self.whitened, source_groups(self.sources)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--cache", type=Path, default=HERE / ".cache")
    parser.add_argument("--out", type=Path, default=HERE / "results/few_rows.json")
    options = parser.parse_args()
    shared = Path(os.environ.get("FUTE_SHARED", HERE.parents[1] / "shared"))
    learnable, tried = task_lists(shared)
    everything = [read_task(shared, manifest(shared)[t]) for t in dict.fromkeys([*learnable, *tried])]
    surrogate = load_surrogate(SurrogateConfig(), HERE)
    store = Store(options.cache)
    features = store.cached_features(surrogate.id, partial(compute, surrogate))
    found: dict[str, list[Doubles]] = {}
    with threadpool_limits(1):
        for number in options.seeds:
            pool = real_pool(shared, "loose", number, everything)
            seed = read_seed(everything[: len(learnable)], pool, number, features, store)
            for way, hits in judged(seed, number).items():
                found.setdefault(way, []).append(hits)
            print(f"seed {number}", flush=True)
    results = table({way: np.mean(of_seeds, axis=0) for way, of_seeds in found.items()})
    write_record({"command": as_run(__file__), "git_commit": code_version(), "results": results}, options.out)


def read_seed(tasks: Sequence[Task], pool: Pool, number: int, features: Features, store: Store) -> Seed:
    parts = PartFeatures(features, pool)
    embedder = Crosscov(CrosscovConfig(), partial(parts.read, slice(None)), pool)
    datasets = [embedder.dataset(parts.part(t, split_rows(t, number))).vector for t in tasks]
    outputs = [store.outputs(pool.id, ref) for t in tasks for ref in model_refs(t, number, "main")]
    own = list(pseudo_tasks(pool, features(pool.inputs), embedder.pseudo_tasks, number))
    whole = [cross_covariance(*embedder.model_rows(o)) for o in outputs]
    of_own = [cross_covariance(*embedder.model_rows(t.answers)) for t in own]
    frame = Frame.of(np.stack([embedder.dataset(t.dataset).vector for t in own]), vectors(of_own))
    text = TextKernel(pool.inputs, features(pool.inputs)).pool - 1.0
    unit = unit_rows(features(pool.inputs))
    unit -= unit.mean(axis=0)
    return Seed(
        tasks, np.asarray(pool.source_ids), embedder.whitening.apply(features(pool.inputs)),
        [o.values.astype(np.float64) for o in outputs], whole,
        [(t.answers.values.astype(np.float64), a) for t, a in zip(own, of_own, strict=True)],
        np.stack(datasets), vectors(whole), frame,
        (unit / np.sqrt((unit**2).sum(axis=1).mean())).astype(np.float32),
        (text / np.diag(text).mean()).astype(np.float32),
    )  # fmt: skip


def vectors(covariances: Sequence[Doubles]) -> Floats:
    return np.stack([to_vector(without_identity(Root.of(a).matrix())).astype(np.float32) for a in covariances])


# ------------------------------------------------------------------------------------------------------ the estimators


def as_shipped(seed: Seed, rows: Index, answers: Sequence[Doubles], known: Index) -> list[Doubles]:
    groups = source_groups(seed.sources[rows])
    z = centred_within(seed.whitened[rows], groups)
    return [cross_covariance(z, centred_within(y[rows], groups)) for y in answers]


def fewer_axes(seed: Seed, rows: Index, answers: Sequence[Doubles], known: Index, axes: int = 128) -> list[Doubles]:
    kept = np.arange(seed.whitened.shape[1])[:, None] < axes
    return [a * kept for a in as_shipped(seed, rows, answers, known)]


def completed(
    seed: Seed, rows: Index, answers: Sequence[Doubles], known: Index, *,
    kernel: Callable[[Seed, Index], Floats], ridge: float, read: Callable[[Doubles], Doubles] | None = None,
) -> list[Doubles]:  # fmt: skip
    """Missing answers from kernel ridge regression, or: the posterior mean of a Gaussian process of this covariance."""
    k = kernel(seed, known)
    inverse = np.linalg.inv(k[np.ix_(rows, rows)].astype(np.float64) + ridge * np.eye(len(rows)))
    sums = inverse.sum(axis=0)
    inverse -= np.outer(sums, sums) / sums.sum()  # the mean is fitted as well
    weights = (seed.centred.T @ k[:, rows] / len(k)) @ inverse
    return [weights @ (y[rows] if read is None else read(y[rows])) for y in answers]


def log_answers(values: Doubles) -> Doubles:
    logs = np.log(np.maximum(values, 1e-3))
    return np.asarray(logs - logs.mean(axis=1, keepdims=True))


def labels_only(values: Doubles) -> Doubles:
    return np.eye(values.shape[1])[values.argmax(axis=1)]


def by_features(seed: Seed, known: Index) -> Floats:
    return seed.once("features", lambda: seed.features @ seed.features.T)


def by_text(seed: Seed, known: Index) -> Floats:
    return seed.text


def by_prior(seed: Seed, known: Index) -> Floats:
    """Empirical Bayes: columns of A are normal, their covariance that of the pool's own tasks and the models known."""

    def make() -> Floats:
        models = [(seed.answers[m], seed.whole[m]) for m in models_of(known)]
        covariance = np.mean([a @ a.T / y.var(axis=0).sum() for y, a in [*seed.pseudo, *models]], axis=0)
        z = seed.whitened - seed.whitened.mean(axis=0)
        return scaled(z @ covariance @ z.T)

    return seed.once(f"prior {known}", make)


def by_known_answers(seed: Seed, known: Index) -> Floats:
    """Rows on which the pool's own tasks and the models known answer alike are alike; with features for what is new."""

    def make() -> Floats:
        total = np.zeros_like(seed.text)
        for values in [*(y for y, _ in seed.pseudo), *(seed.answers[m] for m in models_of(known))]:
            one = values - values.mean(axis=0)
            one = (one / np.sqrt((one**2).sum() / len(one))).astype(np.float32)
            total += one @ one.T
        return scaled(scaled(total) + by_features(seed, known))

    return seed.once(f"answers {known}", make)


def scaled(kernel: NDArray[np.floating]) -> Floats:
    return (kernel / np.diag(kernel).mean()).astype(np.float32)


def models_of(tasks: Index) -> list[int]:
    return [t * len(ARCHITECTURES) + a for t in tasks for a in range(len(ARCHITECTURES))]


KERNELS = {
    "completed by features": by_features,
    "completed by features, words and letters": by_text,
    "prior from tasks and models known": by_prior,
    "completed by features and answers known": by_known_answers,
}
RIDGE, SHIPPED = "completed by features", "as shipped"

# ------------------------------------------------------------------------------------------------------------- the rows


def at_random(seed: Seed, known: Index, number: int, draw: int) -> Index:
    return generator(draw, "few rows").permutation(len(seed.features))[:number]


def k_means_plus_plus(seed: Seed, known: Index, number: int, draw: int) -> Index:
    rng, k = generator(draw, "k-means++"), by_features(seed, known)
    chosen, nearest, own = [int(rng.integers(len(k)))], np.full(len(k), np.inf), np.diag(k)
    while len(chosen) < number:
        last = chosen[-1]
        nearest = np.minimum(nearest, np.maximum(own + own[last] - 2 * k[last], 0.0))
        nearest[chosen] = 0.0
        chosen.append(int(rng.choice(len(k), p=nearest / nearest.sum())))
    return np.array(chosen)


def facility_location(seed: Seed, known: Index, number: int, draw: int) -> Index:
    k = by_features(seed, known)
    length = np.sqrt(np.diag(k))
    cosines = k / length[:, None] / length
    chosen: list[int] = []
    covered = np.full(len(k), -1.0, np.float32)
    while len(chosen) < number:
        gains = np.maximum(cosines - covered[:, None], 0.0).sum(axis=0)
        gains[chosen] = -1.0
        chosen.append(int(gains.argmax()))
        covered = np.maximum(covered, cosines[:, chosen[-1]])
    return np.array(chosen)


def greedy(
    seed: Seed, known: Index, number: int, draw: int, *,
    kernel: Callable[[Seed, Index], Floats], ridge: float = 0.1, all_rows: bool,
) -> Index:  # fmt: skip
    """The row whose answer is least known (D-optimal), or tells most of the answers to all rows (all_rows)."""
    left = kernel(seed, known).copy()
    chosen: list[int] = []
    told = np.square(left).sum(axis=0)
    for _ in range(number):
        own = np.maximum(np.diag(left), 0.0)
        gains = told / (own + ridge) if all_rows else own.copy()
        gains[chosen] = -1.0
        chosen.append(int(gains.argmax()))
        step = left[:, chosen[-1]] / np.sqrt(own[chosen[-1]] + ridge)
        told += -2 * step * (left @ step) + step**2 * (step @ step)
        left -= np.outer(step, step)
    return np.array(chosen)


def most_differing(seed: Seed, known: Index, number: int, draw: int) -> Index:
    """Where the models known differ most from what they say on average."""
    spread = np.sum([((y := seed.answers[m]) - y.mean(axis=0)) ** 2 @ np.ones(y.shape[1]) / y.var(axis=0).sum()
                     for m in models_of(known)], axis=0)  # fmt: skip
    return np.argsort(-spread, kind="stable")[:number]


def perspective_space(seed: Seed, known: Index, number: int, draw: int) -> Index:
    """Of many random sets the one whose data kernel perspective space fits that of all rows best, for models known.

    After "Query-efficient model evaluation using cached responses" (arXiv 2605.07096), which takes the set of the best
    fit on reference models; there the fit is to benchmark scores, here to the models' distances on the whole pool.
    """
    said = [seed.answers[m] for m in models_of(known)]
    names = [np.eye(max(y.shape[1] for y in said))[: y.shape[1]] for y in said]
    pairs = np.triu_indices(len(said), 1)
    true = seed.once(f"apart {known}", lambda: distances(said, names)[pairs])
    sets = [at_random(seed, known, number, 1000 * (draw + 1) + i) for i in range(CANDIDATE_SETS)]
    fits = [np.corrcoef(true, distances([y[rows] for y in said], names)[pairs])[0, 1] for rows in sets]
    return sets[int(np.argmax(fits))]


ROWS: dict[str, tuple[int, Callable[[Seed, Index, int, int], Index], bool, bool]] = {
    "random": (DRAWS, at_random, True, False),
    "k-means++": (DRAWS, k_means_plus_plus, True, False),
    "facility location": (1, facility_location, True, False),
    "D-optimal": (1, partial(greedy, kernel=by_features, all_rows=False), True, False),
    "that tell most of all rows, by features": (1, partial(greedy, kernel=by_features, all_rows=True), True, False),
    "that tell most of all rows, by answers known": (
        1,
        partial(greedy, kernel=by_known_answers, all_rows=True),
        True,
        True,
    ),
    "on which models known differ most": (1, most_differing, True, True),
    "of the best fitting perspective space": (DRAWS, perspective_space, False, True),
}
"""Draws, how, whether fewer rows are the first of more, whether it reads what the models known answered."""

# -------------------------------------------------------------------------------------------------------- the judgement


def judged(seed: Seed, number: int) -> dict[str, Doubles]:
    """way -> (tasks, directions): how often the first is of the same task."""
    order = generator(number, "halves").permutation(len(seed.tasks))
    halves = np.sort(order[: len(order) // 2]), np.sort(order[len(order) // 2 :])
    found: dict[str, Doubles] = {}
    for known, asked in (halves, halves[::-1]):
        for way, hits in half(seed, known, asked).items():
            found.setdefault(way, np.full((len(seed.tasks), len(DIRECTIONS + VERDICTS)), np.nan))[asked] = hits
    return found


def half(seed: Seed, known: Index, asked: Index) -> dict[str, Doubles]:
    found = {f"all rows, {SHIPPED}": measured(seed, asked, seed.models[models_of(asked)])}
    whole = np.arange(len(seed.text))
    for how, read in (("logs", log_answers), ("labels only", labels_only)):
        said = [read(seed.answers[m]) for m in models_of(asked)]
        found[f"all rows, {how}"] = measured(seed, asked, vectors(as_shipped(seed, whole, said, known)))

    def measure(how: str, rows: int, where: str, estimator: Estimator) -> None:
        sets = chosen_rows(seed, known, rows, where)
        found[f"{rows} rows {where}, {how}"] = np.mean([hits(seed, asked, s, estimator, known) for s in sets], axis=0)

    for rows in NUMBERS:
        measure(SHIPPED, rows, "random", as_shipped)
        best = partial(
            completed, kernel=by_features, ridge=chosen_ridge(seed, known, rows) if rows in COMPARED else 0.1
        )
        measure(RIDGE, rows, "random", best)
        labels = partial(completed, kernel=by_features, ridge=0.1, read=labels_only)
        measure(f"{RIDGE}, labels only", rows, "random", labels)
        if rows not in COMPARED:
            continue
        measure("128 axes", rows, "random", fewer_axes)
        for name, kernel in KERNELS.items():
            if name != RIDGE:
                measure(name, rows, "random", partial(completed, kernel=kernel, ridge=0.1))
        logs = partial(completed, kernel=by_features, ridge=0.1, read=log_answers)
        measure(f"{RIDGE}, logs", rows, "random", logs)
        for value in RIDGES:
            fixed = partial(completed, kernel=by_features, ridge=value)
            measure(f"{RIDGE}, ridge {value}", rows, "random", fixed)
        for where in [name for name in ROWS if name != "random"]:
            measure(SHIPPED, rows, where, as_shipped)
            measure(RIDGE, rows, where, best)
    return found


def chosen_rows(seed: Seed, known: Index, number: int, where: str) -> list[Index]:
    """One set for each draw. What is chosen step by step is chosen once: fewer rows are the first of more."""
    draws, choose, stepwise, reads_known = ROWS[where]
    most = max(NUMBERS) if where == "random" else max(COMPARED) if stepwise else number
    key = f"{where} {most} {known if reads_known else ''}"
    sets = seed.once(key, lambda: [choose(seed, known, most, d) for d in range(draws)])
    return [np.sort(rows[:number]) for rows in sets]


def chosen_ridge(seed: Seed, known: Index, rows: int) -> float:
    """Best on the tasks known, and among them, when these are asked a few random rows themselves."""
    sets = [at_random(seed, known, rows, 100 + d) for d in range(DRAWS)]
    right = []
    for ridge in RIDGES:
        estimator = partial(completed, kernel=by_features, ridge=ridge)
        right.append(np.mean([hits(seed, known, s, estimator, known[:0], known)[:, :3].mean() for s in sets]))
    return RIDGES[int(np.argmax(right))]


def hits(
    seed: Seed, asked: Index, rows: Index, estimator: Estimator, known: Index, among: Index | None = None
) -> Doubles:
    answers = [seed.answers[m] for m in models_of(asked)]
    return measured(seed, asked, vectors(estimator(seed, rows, answers, known)), among)


def measured(seed: Seed, asked: Index, few: Floats, among: Index | None = None) -> Doubles:
    """(asked tasks, DIRECTIONS + VERDICTS), in a list of all tasks or some."""
    crossed, between = compared(seed, asked, few)
    if among is not None:
        others = np.setdiff1d(np.arange(len(seed.tasks)), among)
        crossed[others], crossed[:, models_of(others)], between[:, models_of(others)] = -np.inf, -np.inf, -np.inf
    mine, each = models_of(asked), len(ARCHITECTURES)
    of_model = np.repeat(np.arange(len(crossed)), each)
    family, null = np.array([t.family for t in seed.tasks]), seed.frame.nulls["dataset", "model"]
    foreign = family[:, None] != family[of_model[mine]]
    best = np.where(foreign, crossed[:, mine], -np.inf).max(axis=0)
    of_foreign = np.array([null.p_value(float(b), int(n)) for b, n in zip(best, foreign.sum(axis=0), strict=True)])
    of_first = np.array([null.p_value(float(b), len(crossed)) for b in crossed[:, mine].max(axis=0)])
    of_models = (
        crossed[:, mine].argmax(axis=0) == of_model[mine],
        of_model[between.argmax(axis=1)] == of_model[mine],
        of_first <= FITS,
        of_foreign <= FITS,
    )
    to_model = of_model[crossed[asked].argmax(axis=1)] == asked
    return np.column_stack([to_model, *(h.reshape(-1, each).mean(axis=1) for h in of_models)])


def compared(seed: Seed, asked: Index, few: Floats) -> tuple[Doubles, Doubles]:
    """Scores of all datasets with all models, and of the asked models with all; of other tasks' in full."""
    datasets, models, of_datasets, of_models = seed.once("placed", lambda: placed(seed))
    mine, new = models_of(asked), seed.frame.place(few)
    models, of_new = models.copy(), seed.frame.chance(new).of
    models[mine] = new
    own = {kind: tuple(part.copy() for part in of_models[kind]) for kind in of_models}
    for kind, parts in own.items():
        for part, of_few in zip(parts, of_new[kind], strict=True):
            part[mine] = of_few
    rows, columns = of_datasets["model"], own["dataset"]
    crossed = score(datasets @ models.T, (rows[0][:, None], rows[1][:, None]), (columns[0][None], columns[1][None]))
    rows, columns = of_new["model"], own["model"]
    between = score(new @ models.T, (rows[0][:, None], rows[1][:, None]), (columns[0][None], columns[1][None]))
    between[np.arange(len(mine)), mine] = -np.inf
    return crossed, between


def placed(seed: Seed) -> tuple[Floats, Floats, Any, Any]:
    datasets, models = seed.frame.place(seed.datasets), seed.frame.place(seed.models)
    return datasets, models, seed.frame.chance(datasets).of, seed.frame.chance(models).of


def table(found: dict[str, Doubles]) -> dict[str, Any]:
    """Each way's figures with intervals over tasks, as shares of the whole pool's, and against two at the same rows."""
    whole = found[f"all rows, {SHIPPED}"]
    told = {}
    for way, hits_of in found.items():
        start = way.split(" rows ")[0]
        told[way] = {
            "P@1": {d: interval(hits_of[:, i]) for i, d in enumerate(DIRECTIONS)},
            "mean": interval(hits_of[:, :3].mean(axis=1)),
            "verdicts": {v: interval(hits_of[:, 3 + i]) for i, v in enumerate(VERDICTS)},
            "share of all rows": [float(hits_of[:, i].mean() / whole[:, i].mean()) for i in range(len(DIRECTIONS))],
        } | {
            f"above {other}": interval((hits_of - found[f"{start} rows {other}"])[:, :3].mean(axis=1))
            for other in (f"random, {SHIPPED}", f"random, {RIDGE}")
            if f"{start} rows {other}" in found
        }
        figures = "  ".join(f"{told[way]['P@1'][d][0]:.3f}" for d in DIRECTIONS)
        print(f"{way:<75}{figures}  mean {told[way]['mean'][0]:.3f}", flush=True)
    return told


if __name__ == "__main__":
    main()
