"""Models on texts without labels, and with a few: what they answer, how far they agree, how often they will be right.

What they answer is read out of the store (`fute match FILE`), or asked of them (`fute match FILE --ask STUDY`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from fute.did_you_mean import listed
from fute.errors import DataError, ModelError
from fute.match.accuracy import Accuracy, by_name, matched, named_alike, wilson
from fute.match.unlabelled import FEWEST_MODELS, judge, worth_labelling
from fute.select.candidates import NO_ANSWER
from fute.types import Outputs, TextTable
from storage.store import Store
from tasks.labels_file import ask_for_labels
from tasks.match import LEAST_AGREEMENT, class_names, features_of, is_classes, outputs_of, read_outs, space_of, turned
from tasks.match_target import FEWEST_TEXTS, Columns
from tasks.select import file_pool


@dataclass(frozen=True, eq=False)
class Answers:
    """One model's answers to n texts.

    Attributes:
        classes: names of its classes, as it has them.
        said: (n,) class of each text, -1 where it has none.
        trust: of a read-out, how far it follows the model (`ReadOut.agreement`); None where the model itself answered.
    """

    model: str
    kind: str
    classes: tuple[str, ...]
    said: NDArray[np.int64]
    trust: float | None = None


class Judged(BaseModel):
    """One model. `unknown` says why there is no expected accuracy."""

    model: str
    kind: str
    expected: float | None
    low: float | None
    high: float | None
    unknown: str | None
    agreement: float | None
    """With the others that answer the same labels: mean of Cohen's kappa."""
    turned: dict[str, str] | None
    """Which label each of its answers stands for, where that is another than it says."""
    trust: float | None
    shares: dict[str, float]
    """How often it answers each label."""


class Group(BaseModel):
    """Models that answer the same labels; the best first."""

    labels: list[str]
    models: list[Judged]
    labelled: int
    """Texts whose label a person gave."""
    most_frequent: str | None = None
    """Of the labels, where all texts have one."""
    majority: float | None = None
    """Share of texts that always answering it gets right."""

    def better(self, model: Judged) -> bool:
        """Whether a counted model is better than that, not by chance of so many being there."""
        if model.expected is None or model.low is None or model.high is None or self.majority is None:
            return False
        told = Accuracy(model.expected, model.low, model.high, self.majority)
        return told.surely_above_chance(len(self.models))


class Answered(BaseModel):
    """What was found of models on a target's texts."""

    target: str
    texts: int
    asked: bool
    """Whether the models answered the texts themselves; else their answers on a pool say what they would answer."""
    counted: bool
    """Whether all texts had labels, so that right answers were counted."""
    groups: list[Group]
    silent: list[str]
    """Models that answer no classes, or of whom nothing says what they would answer."""
    to_label: str = ""
    """File with texts that wait for a label; empty where none does."""

    @property
    def labels(self) -> list[str]:
        """What most of the models answer: the labels of the texts to label."""
        return max(self.groups, key=lambda group: len(group.models)).labels


def match_unlabelled(
    store: Store,
    path: Path,
    columns: Columns,
    space: str | None,
    rows: int,
    labels_file: Path,
    wanted: int,
    classes: Sequence[str] = (),
) -> Answered:
    """A file without labels, and every model of a space. No model is asked.

    Args:
        labels_file: where texts to label are written, and read again with their labels.
        wanted: how many; 0: none.
    """
    inputs, answers, silent = read_answers(store, path, columns, space, rows)
    return answered(path.name, inputs, answers, silent, labels_file, wanted, classes, asked=False)


def of_classes(answers: Sequence[Answers], classes: Sequence[str]) -> list[Answers]:
    """Those that answer these classes; all, where none are named.

    Raises:
        DataError: there are none.
    """
    wanted = {name.casefold() for name in classes}
    found = [each for each in answers if not wanted or {name.casefold() for name in each.classes} == wanted]
    if not found:
        there = listed(sorted({"/".join(each.classes) for each in answers}))
        raise DataError(f"no model answers {', '.join(classes)}; they answer {there}")
    return found


def answered(
    target: str,
    inputs: TextTable,
    answers: Sequence[Answers],
    silent: list[str],
    labels_file: Path,
    wanted: int,
    classes: Sequence[str],
    *,
    asked: bool,
) -> Answered:
    """Models judged by what they agree on, and by the labels that a person gave.

    Args:
        classes: only models that answer these; none: all.

    Raises:
        ModelError: no model answers with classes.
        DataError: a label that no model answers.
    """
    if not answers:
        raise ModelError(f"none of {len(silent)} models answers {target} with classes")
    answers = of_classes(answers, classes)
    labelled: dict[int, str] = {}
    if wanted:
        labelled = ask_for_labels(labels_file, inputs, wanted, lambda k: texts_to_label(answers, k))
    missing = len(labelled) < min(wanted, len(inputs))
    return Answered(
        target=target,
        texts=len(inputs),
        asked=asked,
        counted=False,
        groups=judged(answers, labelled),
        silent=silent,
        to_label=str(labels_file) if missing else "",
    )


def read_answers(
    store: Store, path: Path, columns: Columns, space: str | None, rows: int
) -> tuple[TextTable, list[Answers], list[str]]:
    """A file's texts, what the models of a space would answer, and those of whom nothing says it.

    Args:
        space: by default the one with the most models.

    Raises:
        DataError: too few texts, texts unlike the pool's, or pairs of texts.
    """
    found, population = space_of(store, space)
    inputs = file_pool(columns.data(path), columns.text, columns.pair(path), rows, Path.cwd(), 0).inputs
    if len(inputs) < FEWEST_TEXTS:
        raise DataError(f"{path.name} has {len(inputs)} different texts; give at least {FEWEST_TEXTS}")
    if inputs.pairs is not None:
        raise DataError(
            f"{path.name} has second texts, and what models make of two texts cannot be read out of what they answered "
            "on the pool. Ask them (--ask STUDY), or give labels"
        )
    features = features_of(store, json.loads(found["settings"])["surrogate"], [inputs])
    models = [e for e in population if e.kind == "model"]
    read = read_outs(store.pool(found["pool"]), outputs_of(store, found["pool"], models), features)
    if read.kernel is None:
        return inputs, [], [m.subject for m in models]
    texts = read.kernel.texts(inputs, features(inputs))
    if read.unlike(inputs, features, texts):
        raise DataError(
            f"{path.name}: most of its texts are unlike the {len(read.pool)} of pool {read.pool.id}, and what models "
            "answered there says nothing of them. Ask the models (--ask STUDY), or add such texts to the study's pool"
        )
    answers, silent = [], []
    for model in models:
        name, one = model.subject, read.found.get(model.subject)
        if one is None or one.agreement < LEAST_AGREEMENT:
            silent.append(name)
            continue
        said = one.answers(texts).argmax(axis=1)
        answers.append(Answers(name, model.row["subject_kind"], class_names(read.outputs[name]), said, one.agreement))
    return inputs, answers, silent


def answers_of(model: str, kind: str, outputs: Outputs) -> Answers | None:
    """Of outputs that are classes; None where they are not, or there are none."""
    if not is_classes(outputs) or not outputs.answered_mask.any():
        return None
    said = np.where(outputs.answered_mask, outputs.values.argmax(axis=1), NO_ANSWER)
    return Answers(model, kind, class_names(outputs), said)


def judged(answers: Sequence[Answers], labelled: Mapping[int, str] | None = None) -> list[Group]:
    """Models in groups that answer the same labels (whatever their order and case): those of which something is known,
    then the largest, first.

    Args:
        labelled: text to label, where a person gave one. On a text whose label is none of theirs all models of a group
            are wrong; where all are such, nothing is said of them.
    """
    known = {name for each in answers for name in each.classes}
    ours = {name.casefold() for name in known}
    if strange := sorted({label for label in (labelled or {}).values() if label.casefold() not in ours}):
        raise DataError(f"no model answers {listed(strange)}; their answers are: {listed(sorted(known))}")
    groups = [_judged(members, labelled or {}) for members in _by_labels(answers)]
    return sorted(groups, key=lambda group: group.models[0].expected is None)


def texts_to_label(answers: Sequence[Answers], k: int, seed: int = 0) -> list[int]:
    """Texts whose labels would say most of the models of the largest group."""
    members = _by_labels(answers)[0]
    ours = [name.casefold() for name in members[0].classes]
    return worth_labelling(np.stack([_in_order(each, ours) for each in members]), len(ours), k, seed).tolist()


def _by_labels(answers: Sequence[Answers]) -> list[list[Answers]]:
    groups: dict[tuple[str, ...], list[Answers]] = {}
    for each in answers:
        groups.setdefault(tuple(sorted(name.casefold() for name in each.classes)), []).append(each)
    return [groups[names] for names in sorted(groups, key=lambda names: (-len(groups[names]), names))]


def _judged(members: Sequence[Answers], labelled: Mapping[int, str]) -> Group:
    names = members[0].classes
    ours = [name.casefold() for name in names]
    said = np.stack([_in_order(each, ours) for each in members])
    rows = np.array(list(labelled), np.int64)
    place = {name: i for i, name in enumerate(ours)}
    labels = np.array([place.get(label.casefold(), len(ours)) for label in labelled.values()], np.int64)
    found = judge(said, len(names), rows, labels)
    # A person who gives other labels only has another task than theirs.
    strangers = len(labels) > 0 and bool((labels == len(ours)).all())
    unknown = "none of the labels that you gave is among theirs" if strangers else _why_unknown(len(members))
    models = []
    for i, each in enumerate(members):
        accuracy = found.accuracies[i] if found.accuracies and not strangers else None
        order, agreement = found.turned[i], float(found.agreement[i])
        models.append(
            Judged(
                model=each.model,
                kind=each.kind,
                expected=accuracy.expected if accuracy else None,
                low=accuracy.low if accuracy else None,
                high=accuracy.high if accuracy else None,
                unknown=None if accuracy else unknown,
                agreement=None if np.isnan(agreement) else agreement,
                turned=None if order is None else {names[k]: names[stands] for k, stands in enumerate(order)},
                trust=each.trust,
                shares={name: float((said[i] == k).mean()) for k, name in enumerate(names)},
            )
        )
    models.sort(key=lambda m: (-(m.expected or 0), -(m.agreement or 0), m.model))
    return Group(labels=list(names), models=models, labelled=len(rows))


def _in_order(answers: Answers, names: Sequence[str]) -> NDArray[np.int64]:
    """(n,) its answers as places among these names."""
    places = np.array([*(names.index(name.casefold()) for name in answers.classes), NO_ANSWER])
    return places[answers.said]


def _why_unknown(models: int) -> str:
    if models < FEWEST_MODELS:
        return f"of {models} with these labels, where {FEWEST_MODELS} are needed to compare"
    return "they agree little more than by chance"


def counted(answers: Sequence[Answers], labels: NDArray[np.int64], names: Sequence[str]) -> Group:
    """How often models are right on texts that all have labels: each of their classes is the label that it is called
    like, or else the one that it goes with; no answer is wrong."""
    models = []
    for each in answers:
        there = each.said != NO_ANSWER
        named = named_alike(each.classes, names)
        if named is None:
            meaning, right = matched(each.said[there], labels[there], len(each.classes), len(names))
        else:
            meaning, right = by_name(each.said[there], labels[there], named)
        right *= float(there.mean())
        low, high = wilson(right, len(labels))
        order = dict(zip(each.classes, (names[k] for k in meaning), strict=True))
        models.append(
            Judged(
                model=each.model,
                kind=each.kind,
                expected=right,
                low=low,
                high=high,
                unknown=None,
                agreement=None,
                turned=order if turned(order) else None,
                trust=None,
                shares={name: float((each.said == k).mean()) for k, name in enumerate(each.classes)},
            )
        )
    models.sort(key=lambda m: (-(m.expected or 0), m.model))
    often = np.bincount(labels, minlength=len(names))
    return Group(
        labels=list(names),
        models=models,
        labelled=len(labels),
        most_frequent=names[int(often.argmax())],
        majority=float(often.max() / len(labels)),
    )
