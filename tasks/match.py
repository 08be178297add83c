"""Which stored model fits a target, and how often it will be right: `fute match`. No model is asked."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fute.config import SurrogateConfig
from fute.data.cautions import dataset_cautions, leaked
from fute.data.sampling import generator
from fute.did_you_mean import did_you_mean, listed
from fute.errors import MethodError, NotInStoreError
from fute.match.accuracy import Accuracy, judge, named_alike, unseen_in_pairs, wilson
from fute.match.kernel import TextKernel
from fute.match.novelty import MOST_UNLIKE, Novelty
from fute.match.readout import ReadOut, read_out
from fute.methods.crosscov.whitening import Doubles
from fute.surrogate.vectors import has_no_model
from fute.train.result import TrainingResult, read_card
from fute.types import Dataset, Features, Floats, Outputs, Pool, TextTable
from storage.store import Store
from storage.vectors import StoredEmbedding, VectorStore
from tasks import resources
from tasks.match_kept import keep_target
from tasks.match_nearness import nearness, own_embedding
from tasks.match_target import Columns, Labelled, labelled_part, read_labelled
from tasks.matched import Match, Matched

log = logging.getLogger(__name__)

MOST_TEXTS = 4000
"""Of a pool that are looked at: a kernel of all takes memory as their square, and time as their cube."""
LEAST_AGREEMENT = 0.2
"""Of a read-out with its model on the pool, below which it says nothing of other texts."""
UNLIKE = "these texts are unlike the pool's, where models answered; ask them (--ask), or add such texts to the pool"
UNSEEN = "what it makes of two texts cannot be read out of the pool; ask it (--ask)"


@dataclass(frozen=True, eq=False)
class ReadOuts:
    """What the models of a space would answer on other texts: made once, for any number of targets.

    Attributes:
        kernel, novelty: None where no model answers with classes.
        outputs, found: by model; one that does not answer with classes has no read-out.
    """

    pool: Pool
    kernel: TextKernel | None
    novelty: Novelty | None
    outputs: Mapping[str, Outputs]
    found: Mapping[str, ReadOut]

    def unlike(self, inputs: TextTable, features: Features, kernel: Doubles) -> bool:
        """Whether these texts are so unlike the pool's that read-outs say nothing of them.

        Args:
            kernel: (m, n) of the texts with the pool.
        """
        if self.kernel is None or self.novelty is None:
            return False
        own = self.kernel.own(inputs, features(inputs))
        return float(self.novelty.unlike(kernel, own).mean()) > MOST_UNLIKE


def match(
    store: Store,
    target: str,
    *,
    columns: Columns | None = None,
    space: str | None = None,
    rows: int = 1000,
    keep: str | None = None,
) -> Match:
    """Every model of a space on a labelled target, a dataset of the store or a file.

    Args:
        columns: of a file.
        space: by default the one with the most models.
        rows: labelled texts at most, a stratified sample.
        keep: id under which the file's texts become a dataset of the store; by default nothing of them is kept.

    Raises:
        NotInStoreError: no such space, dataset or file; no models.
        DataError: the target has no labels, or too few texts; there is another dataset of the id to keep it by.
        MethodError: it is to be kept, and the space's method gives it no embedding.
    """
    found, population = space_of(store, space)
    dataset, known = target_of(store, target, columns or Columns(), rows, population)
    labelled = labelled_part(target, dataset)
    surrogate = json.loads(found["settings"])["surrogate"]
    features = features_of(store, surrogate, [] if known else [labelled.split.inputs])
    models = [e for e in population if e.kind == "model"]
    read = read_outs(store.pool(found["pool"]), outputs_of(store, found["pool"], models), features)
    held_out = held_out_scores(store, dataset, models) if known else {}
    judgements = judged(read, models, labelled, features, held_out)
    near: dict[str, dict[str, Any]] = {}
    try:
        own = own_embedding(found, features, read.pool, dataset)
    except MethodError:
        if keep is not None:
            raise
    else:
        near = nearness(store, found, models, features, own)
        if keep is not None:
            keep_target(store, found, population, replace(dataset, id=keep), own, judgements, labelled)
    models_ = [replace(m, **near.get(m.model, {})) for m in judgements]
    known_models = sum(m.accuracy is not None for m in models_)
    models_.sort(key=lambda m: _place(m, known_models))
    return Match(
        target=target,
        texts=len(labelled.split),
        left_out=0 if known else _left_out(dataset),
        split=labelled.part if known else "",
        labels=labelled.names,
        most_frequent=labelled.most_frequent,
        majority=labelled.majority,
        space=found["space"],
        pool=read.pool.id,
        pool_texts=len(read.pool),
        models=tuple(models_),
        cautions=tuple(dataset_cautions(replace(dataset, id=target))),
    )


def read_outs(pool: Pool, outputs: Mapping[str, Outputs], features: Features) -> ReadOuts:
    """Read the models' answers on the pool out through the surrogate's features and the texts' words.

    Inverts the kernel of n texts, of a larger pool a draw of MOST_TEXTS: 1.4 GB and 80 seconds on two busy cores.

    Args:
        outputs: by model.
    """
    # How well a read-out of some rows says what is answered was never measured.
    classed = {name: each for name, each in outputs.items() if is_classes(each) and each.asked is None}
    if not classed:
        return ReadOuts(pool, None, None, outputs, {})
    log.info("match: reading %d models out of what they answered on pool %s", len(classed), pool.id)
    rows = np.sort(generator(0, "texts of a match").permutation(len(pool))[:MOST_TEXTS])
    kernel = TextKernel(pool.inputs.take(rows), features(pool.inputs)[rows])
    found = read_out(kernel.pool, [each.take(rows) for each in classed.values()])
    return ReadOuts(pool, kernel, Novelty(kernel.pool), outputs, dict(zip(classed, found, strict=True)))


def is_classes(outputs: Outputs) -> bool:
    return outputs.kind in ("probabilities", "labels") and outputs.values.shape[1] > 1


def judged(
    read: ReadOuts,
    models: Sequence[StoredEmbedding],
    labelled: Labelled,
    features: Features,
    held_out: Mapping[str, TrainingResult],
) -> list[Matched]:
    """How often some of the models will be right on labelled texts; not how near they are to them.

    Args:
        held_out: by model, what was counted on held-out texts of this dataset when the model was trained.
    """
    split = labelled.split
    texts = read.kernel.texts(split.inputs, features(split.inputs)) if read.kernel else np.empty((len(split), 0))
    unlike = read.unlike(split.inputs, features, texts)

    def one(model: StoredEmbedding) -> Matched:
        if model.subject in held_out:
            return _counted(model, held_out[model.subject], labelled)
        return _matched(model, read.outputs[model.subject], read.found.get(model.subject), texts, labelled, unlike)

    return [one(model) for model in models]


def held_out_scores(store: Store, dataset: Dataset, models: Sequence[StoredEmbedding]) -> dict[str, TrainingResult]:
    """By model, how it did on those texts of this very dataset on whose others it was trained.

    Not of one that was trained on an earlier version of the dataset, nor where held-out texts are training texts too.
    """
    own = [m for m in models if m.row["task"] == dataset.id and m.row["subject_kind"].startswith("trained ")]
    there = [m for m in own if store.has_model(m.ref, trained=True)]
    cards = {m.subject: read_card(store.weights_folder(m.ref)) for m in there}
    return {
        name: card
        for name, card in cards.items()
        if card.dataset_fingerprint == dataset.fingerprint and not leaked(dataset.report, card.held_out)
    }


def space_of(store: Store, wanted: str | None) -> tuple[dict[str, Any], list[StoredEmbedding]]:
    """The space, and all that is in it: by default the one with the most models. One of another pool that was ranked
    later is named in a warning: its study may have taken this one's place."""
    vectors = VectorStore(store)
    spaces = vectors.spaces()
    if wanted is not None:
        spaces = [row for row in spaces if row["space"] == wanted]
    if unread := [row for row in spaces if has_no_model(row["surrogate"])]:
        if len(unread) == len(spaces):
            raise NotInStoreError(
                f"space {unread[0]['space']} reads no texts (its surrogate is {unread[0]['surrogate']!r}, no model); a "
                "match reads answers out through one that does"
            )
        spaces = [row for row in spaces if row not in unread]
    found = [(row, [e for e in vectors.population(row["space"]) if not e.imported]) for row in spaces]
    if not any(e.kind == "model" for _, population in found for e in population):
        which = "" if wanted is None else f" in space {wanted}"
        raise NotInStoreError(f"no models{which} in {store.root}; run a study first (`fute run`)")
    # crosscov's first: it alone says at no cost how near a target is.
    chosen, population = max(
        found,
        key=lambda f: (sum(e.kind == "model" for e in f[1]), f[0]["method"] == "crosscov", f[0]["created_at"]),
    )
    at = vectors.ranked_at(chosen["space"])
    later = [row["space"] for row, _ in found if row["pool"] != chosen["pool"] and vectors.ranked_at(row["space"]) > at]
    if later:
        log.warning(
            "match: space %s has the most models, but %s, of another pool, was ranked after it, on %s: if a study has "
            "moved there, look there (--space)",
            *(chosen["space"], listed(later), f"{vectors.ranked_at(later[-1]):%Y-%m-%d}"),
        )
    return chosen, population


def outputs_of(store: Store, pool: str, models: Sequence[StoredEmbedding]) -> dict[str, Outputs]:
    """What models answered on a pool, by their ids."""
    return {e.subject: store.outputs(pool, e.ref) for e in models}


def target_of(
    store: Store, target: str, columns: Columns, rows: int, population: Sequence[StoredEmbedding]
) -> tuple[Dataset, bool]:
    """The target, and whether the store holds it."""
    path = Path(target).expanduser()
    refs = {e.subject: e.ref for e in population if e.kind == "dataset"}
    if not path.is_file() and (target in refs or not path.is_dir()):
        if target not in refs:
            raise NotInStoreError(
                f"{target!r} is no file in {Path.cwd()}, and no dataset of {store.root}{did_you_mean(target, refs)}"
            )
        return store.dataset(refs[target]), True
    return read_labelled(path, columns, rows), False


def _left_out(dataset: Dataset) -> int:
    return sum(dataset.report["splits"]["train"]["left_out"].values())


def features_of(store: Store, settings: Mapping[str, Any], unkept: Sequence[TextTable]) -> Features:
    """Features of any table by the space's surrogate, from the store's cache; those of some tables are not kept."""
    config = SurrogateConfig.model_validate(settings)
    kept, compute = resources.features(store, config, Path.cwd()), resources.computed_features(config, Path.cwd())
    passing = {table.fingerprint for table in unkept}
    made: dict[str, Floats] = {}

    def features(table: TextTable) -> Floats:
        if table.fingerprint not in passing:
            return kept(table)
        if table.fingerprint not in made:
            made[table.fingerprint] = compute(table)
        return made[table.fingerprint]

    return features


def _matched(
    model: StoredEmbedding,
    outputs: Outputs,
    read: ReadOut | None,
    texts: Doubles,
    labelled: Labelled,
    unlike: bool,
) -> Matched:
    """A model's expected accuracy; how near it is to the target is not known here.

    Args:
        unlike: the texts are of another kind than the pool's.
    """
    bare = replace(_bare(model), agreement=None if read is None else read.agreement)
    why = unread(outputs, read, unlike)
    if read is None or why is not None:
        return replace(bare, unknown=why)
    classes = class_names(outputs)
    labels, names = labelled.split.targets, labelled.names
    answers = read.answers(texts).argmax(axis=1)
    named = named_alike(classes, names)
    found = judge(answers, labels, len(classes), len(names), read.agreement, named)
    if labelled.split.inputs.pairs is not None and unseen_in_pairs(found):
        return replace(bare, unknown=UNSEEN)
    meaning = {name: names[found.meaning[i]] for i, name in enumerate(classes)}
    return replace(
        bare,
        accuracy=found.accuracy,
        balanced=found.balanced,
        meaning=meaning,
        as_named=None if named is None else float((named[answers] == labels).mean()),
        turned=turned(meaning),
    )


def unread(outputs: Outputs, read: ReadOut | None, unlike: bool) -> str | None:
    """Why nothing can be said of a model on other texts, where that is so.

    Args:
        unlike: the texts are of another kind than the pool's.
    """
    if read is None and outputs.asked is not None:
        return "it was asked about too few of the pool's texts"
    if read is None:
        return f"it answers with {outputs.kind}, not with classes"
    if read.agreement < LEAST_AGREEMENT:
        return "its answers on the pool do not say what it answers on other texts"
    return UNLIKE if unlike else None


def class_names(outputs: Outputs) -> tuple[str, ...]:
    return outputs.label_names or tuple(map(str, range(outputs.values.shape[1])))


def _counted(model: StoredEmbedding, found: TrainingResult, labelled: Labelled) -> Matched:
    """A trained model's accuracy on its own held-out texts."""
    accuracy = Accuracy(found.score, *wilson(found.score, found.n_held_out), labelled.majority)
    meaning = {name: name for name in labelled.names}
    return replace(_bare(model), accuracy=accuracy, as_named=found.score, meaning=meaning)


def _bare(model: StoredEmbedding) -> Matched:
    return Matched(model.subject, model.row["subject_kind"], None, None, {}, None, False, None, None, None, None)


def _place(model: Matched, candidates: int) -> tuple[Any, ...]:
    """Those that are better than chance first; accuracy ranks them, or where it is that of the most frequent label, the
    balanced one does."""
    better = model.better(candidates)
    expected, balanced = (a.expected if a else 0.0 for a in (model.accuracy, model.balanced if better else None))
    return model.accuracy is None, not better, -expected, -balanced, -(model.score or 0), model.model


def turned(meaning: Mapping[str, str]) -> bool:
    """Whether the classes are the labels, each once, in another order."""
    ours = {name.casefold(): label.casefold() for name, label in meaning.items()}
    return set(ours) == set(ours.values()) and len(ours) == len(meaning) and any(a != b for a, b in ours.items())
