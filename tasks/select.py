"""Selection of prompts: the target's texts, the candidates' answers, and the ranking, in the store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from fute.config import PoolConfig, PromptModel, SelectConfig
from fute.data.pool import build_pool
from fute.data.read import source_problems
from fute.data.sampling import generator
from fute.errors import ConfigError, DataError, EmptyPoolError, MethodError, ModelError, NotInStoreError
from fute.fingerprint import fingerprint
from fute.llm.budget import cost_usd
from fute.match.accuracy import Accuracy
from fute.match.unlabelled import judge
from fute.select.candidates import Candidates, Doubles, Integers
from fute.select.halving import successive_halving
from fute.select.perplexity import rank_perplexities
from fute.select.ranking import (
    FEWEST_VOTERS,
    METHODS,
    NEED_REFERENCES,
    Evidence,
    Ranking,
    find_labels,
    find_merits,
    graded,
    information_by_row,
    method,
    oriented_merits,
    rank_candidates,
    rank_halving,
    recommended,
    too_few_voters,
    without_doubt,
)
from fute.select.references import labelled_texts, trusted_answers
from fute.select.strength import TargetSpace
from fute.surrogate.identity import surrogate_identity
from fute.types import Outputs, Pool, TextTable
from storage import catalog
from storage.store import Store, to_json
from tasks import resources
from tasks.embed import OutputsRef
from tasks.engine import NO_CACHE, task
from tasks.prompt_panel import Panel
from tasks.run import Failure, Run, handed_in
from tasks.study import DatasetRef, StudyParts

EVALUATION = "select_prompts"
"""The name of these rows in the view `evaluations`."""
AUTO = "auto"
HALVED = (AUTO, "consensus", "oriented_information")
"""Methods that are means over rows, and can so judge candidates on some of them."""
SPELL = "spell"
"""Looks at how probable the prompts are, and asks for no answers."""
MIN_ROWS = 4
"""Texts that each candidate is asked about at least, however small the share: of fewer there is nothing to tell."""
SELECTION_VERSION = 5
"""Raised when the same answers would be ranked otherwise."""


class TargetRef(BaseModel):
    """The target's texts, a pool in the store."""

    name: str
    pool: str
    rows: int


class Choice(BaseModel):
    """One candidate. A number that is not known is null."""

    id: str
    prompt: str
    endpoint: str
    score: float | None
    """In the method's own unit: nats of information, or expected accuracy."""
    ci_low: float | None
    ci_high: float | None
    expected_accuracy: float | None
    """Share of the target's texts that it will answer rightly, by what candidates and references agree on
    (fute.match.unlabelled). Null where they agree too little to say, or nobody was asked for an answer (spell)."""
    best: float | None
    """In how many resamples of the rows it came first, as a share; null where few texts were asked about, or it alone
    was left."""
    rows: int
    """Texts that it was asked about."""
    answered: float
    """Share of those that it answered."""
    calls: int
    """Calls paid for now; answers found in the store cost nothing."""
    tokens: int
    usd: float | None
    accuracy_low: float | None = None
    accuracy_high: float | None = None
    """Within which that lies in 9 of 10 cases."""
    calibration: str = "none"
    """How its answers were calibrated. Whoever uses the prompt elsewhere calibrates them too."""
    bias: dict[str, float] | None = None
    """What was added to the logarithm of each label's probability; null without calibration."""


class PromptSelection(BaseModel):
    """Candidates from best to worst, and how they came to be."""

    target: TargetRef
    method: str
    references: list[str]
    choices: list[Choice]
    others: dict[str, str]
    """What other methods would choose, from the rows that all candidates answered for."""
    share: float
    """Of the calls that asking every candidate about every text takes (found in the store or paid for)."""
    undecided: str = ""
    """Why nobody is recommended."""
    failures: list[Failure]
    key: str
    """Of its rows in the view `evaluations`: settings->>'key'."""
    report: str = ""
    """The file that holds this, as JSON."""


@task(cache_policy=NO_CACHE, task_run_name="target-{name}")
@handed_in
def target_of_dataset(run: Run, name: str, dataset: DatasetRef, rows: int) -> TargetRef:
    """Texts of a dataset of the study; its labels are not looked at."""
    store = run.open_store()
    inputs = target_rows(run, name, store.dataset(dataset.ref).train.inputs, rows)
    return _kept(run, store, name, Pool(inputs, [name] * len(inputs)))


@task(cache_policy=NO_CACHE, task_run_name="target-{path}")
@handed_in
def target_of_file(run: Run, path: str, text: str, text_pair: str | None, rows: int) -> TargetRef:
    """Texts of a Parquet, CSV or JSONL file."""
    return _kept(
        run, run.open_store(), Path(path).name, file_pool({"files": path}, text, text_pair, rows, run.folder, run.seed)
    )


def target_rows(run: Run, name: str, inputs: TextTable, rows: int) -> TextTable:
    """A seeded draw of a dataset's texts."""
    return inputs.take(np.sort(generator(run.seed, "target", name).permutation(len(inputs))[:rows]))


def file_pool(data: Mapping[str, Any], text: str, text_pair: str | None, rows: int, folder: Path, seed: int) -> Pool:
    """A seeded draw of a file's texts.

    Args:
        data: settings of a `FileSource`.

    Raises:
        ConfigError: no such file.
        DataError: it lacks a column, or has no texts.
    """
    source = {"id": "target", "data": data, "text": text, "text_pair": text_pair}
    config = PoolConfig.model_validate({"sources": [source], "rows_per_source": rows, "max_rows": max(rows, 8)})
    read = config.sources[0].data
    # What the pool of a study would say speaks of its sources.
    if problems := source_problems(read, [], folder):
        raise ConfigError("\n".join(problems))
    for option, column in (("--text", text), ("--text-pair", text_pair)):
        if column is not None and (problems := source_problems(read, [column], folder)):
            raise DataError(f"{problems[0]}; {option} names the column")
    try:
        return build_pool(config, folder, seed, [])
    except EmptyPoolError as exc:
        raise DataError(f"{data['files']} has no texts in column {text!r}") from exc


def _kept(run: Run, store: Store, name: str, pool: Pool) -> TargetRef:
    store.put_pool(pool, run.stamp)
    return TargetRef(name=name, pool=pool.id, rows=len(pool))


@task(cache_policy=NO_CACHE, task_run_name="select-for-{target.name}")
def choose_prompts(
    run: Run,
    config: SelectConfig,
    models: list[PromptModel],
    parts: StudyParts,
    target: TargetRef,
    references: list[DatasetRef],
    trusted: Sequence[OutputsRef] = (),
) -> PromptSelection:
    """Ask the candidates about the target's texts, rank them, and write the ranking.

    Every answer is in the store as it comes: a run that was ended goes on where it was, and one that is repeated pays
    nothing.

    Args:
        trusted: outputs of trusted models on the target's texts.

    Raises:
        ConfigError: an unknown method, or prompts with other labels than the first's.
        ModelError: no candidate answered.
    """
    if config.method not in (AUTO, SPELL):
        method(config.method)
    store = run.open_store()
    everything = store.pool(target.pool).inputs
    halved = halves(config, len(models))
    # Who cannot be dropped on the way is asked, as all others, about fewer texts.
    rows = np.arange(len(everything)) if halved else shared_rows(config.share, len(everything), run.seed)
    inputs = everything.take(rows)
    panel = Panel(run, models, parts, inputs)
    name = config.method
    answered = [(each, store.outputs(target.pool, each.ref).take(rows)) for each in trusted]
    nothing: tuple[TargetSpace | None, list[str], list[Failure]] = (None, [], [])
    space, used, unused = (
        nothing if name == SPELL else _space(run, store, parts, panel.label_names, inputs, references, answered)
    )
    raw = candidates = panel.blank
    rows_of = np.full(len(models), len(inputs))
    if name == SPELL:
        ranking = rank_perplexities(
            tuple(model.id for model in panel.models), panel.perplexities(), resamples=config.resamples, seed=run.seed
        )
    elif halved:
        judge = Judge(config.method, space, panel.calibrated)
        halving = successive_halving(panel.blank, panel.ask, judge, share=config.share, seed=run.seed)
        raw, name, rows_of = halving.candidates, judge.method, halving.rows
        candidates = panel.calibrated(raw)
        ranking = rank_halving(halving, resamples=config.resamples, seed=run.seed)
        ranking = without_doubt(ranking) if name == "consensus" else ranking
    else:
        raw = panel.ask(np.arange(len(models)), np.arange(len(inputs)))
        candidates = panel.calibrated(raw)
        name = recommended(candidates, len(used)) if config.method == AUTO else config.method
        ranking = rank_candidates(Evidence(candidates, space), name, resamples=config.resamples, seed=run.seed)
    if not (np.isfinite(ranking.scores) if name == SPELL else candidates.answered).any():
        reasons = "; ".join(f"{f.subject}: {f.reason}" for f in panel.failures) or "look at the verbalizers"
        raise ModelError(f"none of {len(models)} candidates answered a single text of {target.name}: {reasons}")
    evidence = Evidence(candidates, space)
    together = evidence.rows(np.flatnonzero(panel.asked.all(axis=0)))
    accuracies = [None] * len(models) if name == SPELL else _expected_accuracies(together)
    others = {
        other: candidates.ids[int(np.nan_to_num(METHODS[other](together), nan=-np.inf).argmax())]
        for other in METHODS
        if name != SPELL and other != name and (space is not None or other not in NEED_REFERENCES)
    }
    calls = candidates.calls_per_row
    selection = PromptSelection(
        target=target,
        method=name,
        references=used,
        # Who never answered has a score of nothing, which may be more than that of one who answers the opposite.
        choices=[
            _choice(i, panel, ranking, accuracies[i], raw)
            for i in sorted(ranking.order.tolist(), key=lambda i: name != SPELL and not candidates.answered[i].any())
        ],
        others=others,
        undecided="" if name == SPELL else _undecided(candidates, len(used), name),
        share=float((rows_of * calls).sum()) / float(calls.sum() * len(everything)),
        failures=[*panel.failures, *unused],
        key=fingerprint(
            version=SELECTION_VERSION,
            target=target.pool,
            candidates=[f"{m.id}@{m.fingerprint}" for m in panel.models],
            references=[r.ref for r in references],
            **({"trusted": [t.ref for t in trusted]} if trusted else {}),
            # References speak through its features.
            **({"surrogate": surrogate_identity(parts.surrogate, run.folder)} if references or trusted else {}),
            config=config.identity(exclude={"trusted"}),
            seed=run.seed,
        ),
    )
    return _write(store, run, selection)


def halves(config: SelectConfig, n_candidates: int) -> bool:
    """Whether candidates are dropped on the way."""
    return config.share < 1 and config.method in HALVED and n_candidates > 1


def shared_rows(share: float, n: int, seed: int) -> Integers:
    """Which of n texts each candidate is asked about where all are asked about the same: a seeded draw, in order."""
    kept = min(n, max(MIN_ROWS, int(share * n)))
    return np.sort(generator(seed, "share").permutation(n)[:kept])


class Judge:
    """Scores candidates by the row during successive halving. The method is settled by the first answers: another one
    in a later round would compare what cannot be compared."""

    def __init__(
        self, name: str, space: TargetSpace | None, calibrated: Callable[[Candidates], Candidates] = lambda c: c
    ) -> None:
        self.method = name
        self._space = space
        self._calibrated = calibrated

    def __call__(self, candidates: Candidates, asked: Integers) -> Doubles:
        candidates = self._calibrated(candidates)
        if self.method == AUTO:
            self.method = recommended(candidates, 0 if self._space is None else len(self._space.references))
        if self.method == "mutual_information":
            return information_by_row(candidates)[:, asked]
        evidence = Evidence(candidates, self._space)
        merits = find_merits(evidence) if self.method == "consensus" else oriented_merits(evidence, asked)
        return merits[:, asked]


def _expected_accuracies(together: Evidence) -> Sequence[Accuracy | None]:
    """By the labels found together, over the rows that all were asked about; None where they agree too little."""
    candidates = together.candidates
    if candidates.n_rows == 0:
        return [None] * len(candidates)
    labels = find_labels(together).posterior
    # Who never answers agrees with nobody, which is nothing against what the others agree on.
    heard = np.flatnonzero(candidates.answered.any(axis=1))
    found = judge(candidates.labels[heard], len(candidates.label_names), posterior=labels).accuracies
    known = dict(zip(heard.tolist(), found or (), strict=False))
    return [known.get(member) for member in range(len(candidates))]


def _undecided(candidates: Candidates, n_references: int, method_: str) -> str:
    """Why none of the candidates can be recommended; empty: one can."""
    alone = method_ not in ("consensus", "consensus_alone", "oriented_information") and graded(candidates)
    answering = int(candidates.answered.any(axis=1).sum())
    if answering < 2 or alone or not too_few_voters(candidates, n_references):
        return ""
    return (
        f"fewer than {FEWEST_VOTERS} prompts and references answer, and nothing says which of them is right: add a "
        "prompt, or a labelled dataset with the same labels"
    )


def _choice(member: int, panel: Panel, ranking: Ranking, accuracy: Accuracy | None, candidates: Candidates) -> Choice:
    calls, tokens_in, tokens_out = (int(n) for n in panel.paid[member])
    rows = int(panel.asked[member].sum())
    calibration = panel.models[member].calibration
    told = calibration != "none" and candidates.answered[member].any()
    bias = None if not told else panel.biases(candidates)[member].round(6).tolist()
    if bias is not None and not any(bias):  # no answer tells how sure it is, so there was nothing to take out
        calibration, bias = "none", None
    return Choice(
        id=panel.models[member].id,
        prompt=str(panel.configs[member].prompt),
        endpoint=panel.endpoints[member].id,
        score=_number(ranking.scores[member]),
        ci_low=_number(ranking.low[member]),
        ci_high=_number(ranking.high[member]),
        expected_accuracy=None if accuracy is None else accuracy.expected,
        accuracy_low=None if accuracy is None else accuracy.low,
        accuracy_high=None if accuracy is None else accuracy.high,
        best=_number(ranking.best[member]),
        rows=rows,
        answered=float(candidates.answered[member].sum()) / max(rows, 1),
        calls=calls,
        tokens=tokens_in + tokens_out,
        usd=cost_usd(panel.endpoints[member], tokens_in, tokens_out),
        calibration=calibration,
        bias=None if bias is None else dict(zip(panel.label_names, bias, strict=True)),
    )


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def read_selection(store: Store, flow_run_id: str) -> PromptSelection:
    """What a flow run chose."""
    runs = catalog.query(store.root, "SELECT report FROM runs WHERE flow_run_id = $id", {"id": flow_run_id}).rows
    if not runs or not runs[0][0]:
        raise NotInStoreError(f"no selection of run {flow_run_id} in {store.root}")
    return PromptSelection.model_validate_json(Path(runs[0][0]).read_text(encoding="utf-8"))


def _write(store: Store, run: Run, selection: PromptSelection) -> PromptSelection:
    """The ranking as rows of `evaluations` (the same selection made again writes the same file), and as JSON."""
    settings = to_json(
        {
            "key": selection.key,
            "pool": selection.target.pool,
            "method": selection.method,
            "references": selection.references,
        }
    )
    rows = [
        {
            "subject": selection.target.name,
            "candidate": choice.id,
            "seed": run.seed,
            "measure": selection.method,
            "value": choice.score,
            "settings": settings,
            "details": to_json({"rank": rank, **choice.model_dump(exclude={"score"})}),
        }
        for rank, choice in enumerate(selection.choices, start=1)
    ]
    store.put_evaluations(EVALUATION, rows, run.stamp, key=selection.key)
    name = f"{run.study}.select-{selection.target.name}-{selection.key[:8]}.json"
    path = store.put_report(name, selection.model_dump_json(indent=1) + "\n")
    return selection.model_copy(update={"report": str(path)})


def _space(
    run: Run,
    store: Store,
    parts: StudyParts,
    label_names: tuple[str, ...],
    inputs: TextTable,
    references: Sequence[DatasetRef],
    trusted: Sequence[tuple[OutputsRef, Outputs]],
) -> tuple[TargetSpace | None, list[str], list[Failure]]:
    """The space of target and references, and which of them have something to say; None where none has. And why a
    trusted model has nothing to say: it was named, so its silence must be heard."""
    features = resources.features(store, parts.surrogate, run.folder)
    found = [labelled_texts(store.dataset(ref.ref), label_names, inputs, features) for ref in references]
    known = [reference for reference in found if reference is not None]
    unused: list[Failure] = []
    for model, outputs in trusted:
        try:
            known.append(trusted_answers(model.id, outputs, label_names, inputs, features))
        except MethodError as exc:
            unused.append(Failure(subject=model.id, stage="select", reason=str(exc)))
    if not known:
        return None, [], unused
    with resources.compute_lock:
        space = TargetSpace.fit(features(inputs), known, len(label_names))
    return space, [reference.id for reference in known], unused
