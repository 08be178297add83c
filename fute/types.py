"""The vocabulary of fute, used the same way everywhere.

surrogate   one frozen pretrained model in whose parameters or features all embeddings live
pool        the ordered, fingerprinted set of unlabelled inputs given to every model
outputs     what a model answered on the pool, as numbers
subject     what an embedding is of: a dataset or a model
DTE, MTE    dataset task embedding, model task embedding
space       surrogate + revision + method + settings + pool; vectors compare only within one space
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from fute.errors import OutputsError
from fute.fingerprint import fingerprint, fingerprint_bytes, fingerprint_texts
from fute.spans import MIN_ANSWERED_SPANS, validate_spans

Kind = Literal["dataset", "model"]
TaskType = Literal["classification", "regression", "span_qa"]
OutputKind = Literal["probabilities", "labels", "scores", "embeddings", "spans"]
Floats = NDArray[np.float32]

UNRELATED = "unrelated_p"
"""A metric of an embedding: p-value of the null that the outputs, or labels, have nothing to do with the texts."""

MIN_ANSWERED = 0.5
"""Outputs with a smaller share of answered inputs are refused: what is left says too little of the task."""


@dataclass(frozen=True, eq=False)
class TextTable:
    """Ordered inputs: a text and, where the input has one, a second text.

    Attributes:
        texts: n texts, none empty.
        pairs: n second texts (None where a row has none), or None when no row has one.
        pool: id of the pool that these are the rows of, all and in order; no part of the identity.
        columns: where the inputs are no texts but rows of a table, the names of its columns; each text is then the row
            as JSON (`fute.rows`).
    """

    texts: Sequence[str]
    pairs: Sequence[str | None] | None = None
    pool: str | None = None
    columns: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.pairs is not None and len(self.pairs) != len(self.texts):
            raise ValueError(f"{len(self.texts)} texts but {len(self.pairs)} pairs; give one for each text")

    def __len__(self) -> int:
        return len(self.texts)

    @cached_property
    def fingerprint(self) -> str:
        """Identity of content and order."""
        return fingerprint_texts([self.texts, self.pairs or (), *([self.columns] if self.columns else ())])

    def take(self, rows: Sequence[int] | NDArray[np.integer]) -> TextTable:
        return TextTable(
            [self.texts[i] for i in rows],
            None if self.pairs is None else [self.pairs[i] for i in rows],
            columns=self.columns,
        )

    def followed_by(self, other: TextTable) -> TextTable:
        pairs = None
        if self.pairs is not None or other.pairs is not None:
            pairs = [*(self.pairs or [None] * len(self)), *(other.pairs or [None] * len(other))]
        return TextTable([*self.texts, *other.texts], pairs, columns=self.columns)

    def joined(self, separator: str = " [SEP] ") -> list[str]:
        """Text and pair as one string, for models that know no pairs."""
        if self.pairs is None:
            return list(self.texts)
        return [t if p is None else f"{t}{separator}{p}" for t, p in zip(self.texts, self.pairs, strict=True)]


@dataclass(frozen=True, eq=False)
class Split:
    """Labelled rows.

    Attributes:
        inputs: n inputs. Span QA: texts are questions, pairs are contexts.
        targets: classification (n,) int64 class ids; regression (n,) float32;
            span QA (n, 2) int64 character offsets [start, end) in the context, (-1, -1) for no answer.
    """

    inputs: TextTable
    targets: NDArray[Any]

    def __len__(self) -> int:
        return len(self.inputs)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A labelled dataset as sampled and stored.

    Attributes:
        splits: always "train"; "validation" and "test" where the source has them.
        provenance: where it came from: source, path or hub name, revision or digest, settings.
        report: counts of what was seen, kept, dropped, duplicated, and shared between splits.
    """

    id: str
    task: TaskType
    splits: Mapping[str, Split]
    fingerprint: str
    label_names: tuple[str, ...] | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    report: Mapping[str, Any] = field(default_factory=dict)

    @property
    def train(self) -> Split:
        return self.splits["train"]

    @property
    def class_names(self) -> tuple[str, ...]:
        """Of a classification: the label names, else the class ids."""
        ids = range(1 + max(int(split.targets.max()) for split in self.splits.values()))
        return tuple(self.label_names or map(str, ids))


@dataclass(frozen=True, eq=False)
class Pool:
    """The unlabelled inputs given to every model.

    Attributes:
        source_ids: for each row, the source it came from.
        report: rows per source, rows left out and why.
    """

    inputs: TextTable
    source_ids: Sequence[str]
    report: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", replace(self.inputs, pool=self.id))

    @property
    def id(self) -> str:
        """Identity of the inputs, their order and their sources."""
        return fingerprint(inputs=self.inputs.fingerprint, sources=fingerprint_texts([self.source_ids]))

    def __len__(self) -> int:
        return len(self.inputs)


@dataclass(frozen=True, eq=False)
class Outputs:
    """What a model answered on n inputs, as numbers.

    Attributes:
        kind: probabilities (rows sum to 1), labels (one-hot rows), scores (any real numbers),
            embeddings (of generated text), spans (candidate answers in the second text, see fute.spans).
        values: (n, c) float32. Rows without an answer hold zeros; spans (n, 3k): start, end, probability of each of
            k candidates, most probable first.
        label_names: what the c columns stand for, where known.
        answered: (n,) bool, False where the model gave no usable answer. None: all answered.
        asked: (n,) bool, False where the model was not asked to save its price. None: asked about all that it can take.
        details: counts worth keeping (calls, tokens, refusals).
        answer_keys: for each input the keys of the LLM's answers that it came from, the last one read last (before it
            are its reasoning and other samples); empty where there is none. None: nothing came from an LLM.
    """

    kind: OutputKind
    values: Floats
    label_names: tuple[str, ...] | None = None
    answered: NDArray[np.bool_] | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    answer_keys: Sequence[Sequence[str]] | None = None
    asked: NDArray[np.bool_] | None = None

    @cached_property
    def fingerprint(self) -> str:
        answered = b"" if self.answered is None else np.packbits(self.answered).tobytes()
        return fingerprint(
            kind=self.kind,
            values=fingerprint_bytes(np.ascontiguousarray(self.values, dtype="<f4").tobytes()),
            shape=list(self.values.shape),
            label_names=None if self.label_names is None else list(self.label_names),
            answered=fingerprint_bytes(answered),
        )

    @property
    def answered_rows(self) -> NDArray[np.intp]:
        if self.answered is None:
            return np.arange(len(self.values))
        return np.flatnonzero(self.answered)

    @property
    def answered_mask(self) -> NDArray[np.bool_]:
        return np.ones(len(self.values), dtype=bool) if self.answered is None else self.answered

    def take(self, rows: NDArray[np.integer]) -> Outputs:
        answered = None if self.answered is None else self.answered[rows]
        keys = None if self.answer_keys is None else [self.answer_keys[row] for row in rows]
        asked = None if self.asked is None else self.asked[rows]
        return replace(self, values=self.values[rows], answered=answered, answer_keys=keys, asked=asked)

    def validate(self, n_rows: int) -> Outputs:
        """Refuse outputs from which no task can be read; return self.

        Raises:
            OutputsError: wrong shape, not finite, rows of probabilities that do not sum to one, no spans, constant,
                or fewer than MIN_ANSWERED of the rows asked about answered (spans: fewer than MIN_ANSWERED_SPANS).
        """
        if self.values.ndim != 2:
            raise OutputsError(f"outputs have shape {self.values.shape}; give one row of numbers for each input")
        if len(self.values) != n_rows:
            raise OutputsError(
                f"{len(self.values)} rows of outputs for {n_rows} inputs; give exactly one for each input"
            )
        if self.values.shape[1] < 1:
            raise OutputsError("outputs have no columns; give at least one number for each input")
        if self.label_names is not None and len(self.label_names) != self.values.shape[1]:
            raise OutputsError(
                f"{len(self.label_names)} label names for {self.values.shape[1]} columns; give one for each column"
            )
        rows = self.answered_rows
        if self.kind == "spans" and len(rows) < MIN_ANSWERED_SPANS:
            raise OutputsError(
                f"only {len(rows)} of {n_rows} inputs have an answer span (needed: {MIN_ANSWERED_SPANS}); a span "
                "answerer needs inputs with a second text, so add sources with text_pair to the pool"
            )
        n_asked = n_rows if self.asked is None else int(self.asked.sum())
        if self.kind != "spans" and len(rows) < max(2, MIN_ANSWERED * n_asked):
            raise OutputsError(
                f"only {len(rows)} of {n_asked} inputs were answered (needed: {MIN_ANSWERED:.0%}); "
                "look at the refusals and the verbalizer, or give the model inputs that it can answer"
            )
        values = self.values[rows]
        if not np.isfinite(values).all():
            bad = int((~np.isfinite(values)).any(axis=1).sum())
            raise OutputsError(f"{bad} of {len(rows)} rows hold NaN or infinity; fix the model before embedding it")
        if self.kind == "spans":
            validate_spans(values)
        if self.kind in ("probabilities", "labels"):
            if (values < -1e-6).any():
                raise OutputsError("probabilities below zero; if these are scores or logits, say kind 'scores'")
            off = np.abs(values.sum(axis=1) - 1.0)
            if off.max() > 1e-3:
                raise OutputsError(
                    f"probabilities of {int((off > 1e-3).sum())} rows do not sum to one (row sum "
                    f"{float(values[off.argmax()].sum()):.4g}); normalise them, or say kind 'scores'"
                )
        if float(np.ptp(values, axis=0).max()) <= 1e-7:
            which = "" if self.label_names is None else f" ({self.label_names[int(values[0].argmax())]!r})"
            raise OutputsError(
                f"the outputs are the same for every input{which}: a constant model has no task to embed"
            )
        return self


@dataclass(frozen=True, eq=False)
class TaskEmbedding:
    """One vector of one space.

    Attributes:
        vector: (dim,) float32, unit length, as the method made it (not in the space's frame).
        metrics: losses, scores and seconds of making it.
    """

    vector: Floats
    metrics: Mapping[str, float] = field(default_factory=dict)


class Model(Protocol):
    """Anything with outputs."""

    id: str
    kind: str

    @property
    def fingerprint(self) -> str:
        """Identity of everything that can change the outputs: weights, prompt, decoding, code."""
        ...

    def outputs(self, table: TextTable) -> Outputs:
        """Answer every input, in order. Raises ModelError when it cannot."""
        ...


Features = Callable[[TextTable], Floats]
"""Surrogate features of a table: n inputs -> (n, width) float32. May read a cache."""
