"""What was found of models and a target."""

from __future__ import annotations

from dataclasses import dataclass

from fute.match.accuracy import Accuracy, better_than_chance


@dataclass(frozen=True)
class Matched:
    """One model and a target.

    Attributes:
        accuracy: None where nothing can be vouched for; `unknown` then says why.
        meaning: which label each of its classes was read as, the classes by name.
        as_named: share of texts that would be right with its classes read by their own names; None where they are not
            the target's.
        turned: whether its classes go with the target's labels in another order than their names say.
        agreement: of the read-out with the model on the pool (`ReadOut.agreement`); None with an accuracy: it was
            counted on held-out texts when the model was trained.
        score, p_value, verdict: how near it is to the target, as `fute nearest` says it.
        balanced: mean share of each label's texts that it will answer rightly; None where accuracy is.
    """

    model: str
    kind: str
    accuracy: Accuracy | None
    unknown: str | None
    meaning: dict[str, str]
    as_named: float | None
    turned: bool
    agreement: float | None
    score: float | None
    p_value: float | None
    verdict: str | None
    balanced: Accuracy | None = None

    def better(self, candidates: int) -> bool:
        """Whether it is better than giving all texts the same label, not by chance of so many models being there."""
        return better_than_chance([a for a in (self.accuracy, self.balanced) if a], candidates)


@dataclass(frozen=True)
class Match:
    """Attributes:
    texts: labelled ones that were looked at.
    left_out: rows of the file that are empty, without a label or there twice.
    split: of a dataset of the store: which part of it was looked at; empty for a file.
    cautions: what to know of its texts and labels (`fute.data.cautions`).
    most_frequent, majority: a label, and the share of texts that always answering it gets right.
    models: the best first, those of unknown accuracy last.
    """

    target: str
    texts: int
    left_out: int
    split: str
    labels: tuple[str, ...]
    most_frequent: str
    majority: float
    space: str
    pool: str
    pool_texts: int
    models: tuple[Matched, ...]
    cautions: tuple[str, ...] = ()

    def better(self) -> list[Matched]:
        """Models that are better than giving all texts the same label, not by chance of being so many."""
        known = [m for m in self.models if m.accuracy is not None]
        return [m for m in known if m.better(len(known))]
