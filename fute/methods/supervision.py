"""What the trained methods learn from: labelled rows, or rows of the pool with what a model answered."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from fute.errors import MethodError
from fute.fingerprint import fingerprint
from fute.methods.labels import check_labels
from fute.methods.row_order import in_an_order_of_its_own, pool_order
from fute.methods.targets import Targets, label_targets, output_targets, span_targets
from fute.settings import TrainedMethodSettings
from fute.span_contexts import check_spans
from fute.spans import unpack_spans
from fute.surrogate.load import Surrogate
from fute.surrogate.span_tokens import tokenise_with_offsets
from fute.surrogate.tokens import Tokens, tokenise
from fute.types import Dataset, Floats, Outputs, Pool, Split


@dataclass(frozen=True, eq=False)
class Supervision:
    """n inputs and what to learn from each.

    Attributes:
        targets: as many as tokens, in the same order.
        pool_rows: (n,) which rows of pool_tokens these are; None for a dataset's own rows and for answer spans.
        max_tokens: what a row of the pool was cut to.
        counts: of rows and candidates that were left out, or say "no answer"; named as they stand in the metrics.
    """

    tokens: Tokens
    targets: Targets
    pool_rows: NDArray[np.intp] | None = None
    max_tokens: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.tokens)

    def take(self, rows: NDArray[np.integer]) -> Supervision:
        pool_rows = None if self.pool_rows is None else self.pool_rows[rows]
        return replace(self, tokens=self.tokens.take(rows), targets=self.targets.take(rows), pool_rows=pool_rows)


HELD_OUT = 0.1
"""Share of the training rows that early stopping holds out where a dataset has no validation split."""


class Supervisor:
    """Samples and tokenises what each subject of a space is learned from; the pool is tokenised once for all.

    Which rows are sampled, and in which order they stand in a supervision, follows from the seed and the rows' texts,
    for datasets and for the pool.

    Attributes:
        pool_order: (n,) the number, in the pool as it was given, of each row of pool_tokens.
    """

    def __init__(self, surrogate: Surrogate, pool: Pool, config: TrainedMethodSettings, seed: int) -> None:
        self.surrogate = surrogate
        self.pool = pool
        self.config = config
        self.pool_order = pool_order(pool)
        self._seed = int(fingerprint(seed=seed, use="rows")[:15], 16)
        self._pool_tokens: dict[int, Tokens] = {}
        self._question_tokens: tuple[bytes, Tokens] | None = None

    def pool_tokens(self, max_tokens: int | None = None) -> Tokens:
        """The pool in pool_order, cut to max_tokens (default: as set) and tokenised once for all models."""
        cut = max_tokens or self.config.max_tokens
        if cut not in self._pool_tokens:
            # Ordered afterwards: an input without a token is named by its number in the pool as it was given.
            self._pool_tokens[cut] = tokenise(self.surrogate, self.pool.inputs, cut).take(self.pool_order)
        return self._pool_tokens[cut]

    @property
    def usual_rows(self) -> NDArray[np.intp]:
        """The rows of pool_tokens that a model is learned from when it answered all of them."""
        return self._sample(np.arange(len(self.pool)), len(self.pool))

    def dataset(self, dataset: Dataset) -> Supervision:
        """Labelled rows of the training split, the same ones in whatever order the dataset gives its rows.

        Raises:
            MethodError: labels that check_labels refuses, one class or value only in the rows used, or no answer left
                within max_tokens_spans.
        """
        check_labels(dataset)
        n = len(dataset.train)
        return self._labelled(in_an_order_of_its_own(dataset), self._sample(np.arange(n), n))[0]

    def dataset_with_held_out(self, dataset: Dataset) -> tuple[Supervision, Supervision]:
        """Labelled rows to learn from, and others that say when to stop.

        Held out are the rows of the validation split, or a seeded HELD_OUT share of the training rows where there is
        none.

        Raises:
            MethodError: as by dataset(), or fewer than two rows on either side.
        """
        check_labels(dataset)
        dataset = in_an_order_of_its_own(dataset)
        n = len(dataset.train)
        rows = self._sample(np.arange(n), n)
        validation = dataset.splits.get("validation")
        if validation is None:
            n_held_out = math.ceil(HELD_OUT * len(rows))
            shuffled = np.random.default_rng(self._seed).permutation(len(rows))
            order = np.concatenate([np.sort(shuffled[n_held_out:]), shuffled[:n_held_out]])
            rows, n_training = rows[order], len(rows) - n_held_out
        else:
            # One table of both, so that numbers are standardised alike.
            both = Split(
                dataset.train.inputs.followed_by(validation.inputs),
                np.concatenate([dataset.train.targets, validation.targets]),
            )
            dataset = replace(dataset, splits={"train": both})
            check_labels(dataset)
            held_out = self._sample(np.arange(len(validation)), len(validation))
            rows, n_training = np.concatenate([rows, n + held_out]), len(rows)
        whole, kept = self._labelled(dataset, rows)
        training, held = np.flatnonzero(kept < n_training), np.flatnonzero(kept >= n_training)
        if min(len(training), len(held)) < 2:
            raise MethodError(
                f"dataset {dataset.id}: {len(training)} rows to learn from and {len(held)} held out; early stopping "
                "needs two of each: give more rows, or set patience to null"
            )
        return whole.take(training), whole.take(held)

    def _labelled(self, dataset: Dataset, rows: NDArray[np.intp]) -> tuple[Supervision, NDArray[np.intp]]:
        """Some training rows, and which of `rows` are left."""
        inputs = dataset.train.inputs.take(rows)
        if dataset.task != "span_qa":
            tokens = tokenise(self.surrogate, inputs, self.config.max_tokens)
            return Supervision(tokens, label_targets(dataset, rows)), np.arange(len(rows))
        starts, ends = (dataset.train.targets[rows][:, None, i] for i in (0, 1))
        certain = np.ones(starts.shape, dtype=np.float32)
        tokens = tokenise_with_offsets(self.surrogate, inputs, self.config.max_tokens_spans)
        tokens, targets, kept, counts = self._spans(tokens, starts, ends, certain, f"dataset {dataset.id}")
        return Supervision(tokens, targets, counts=counts), kept

    def model(self, outputs: Outputs) -> Supervision:
        """Rows of the pool that a model answered.

        Args:
            outputs: one row for each row of the pool as it was given.

        Raises:
            OutputsError: wrong shape, not finite, constant, spans outside their text, or too few answers.
            MethodError: the same answer for all rows used, or no answer left within max_tokens_spans.
        """
        n = len(self.pool)
        outputs = check_spans(outputs.validate(n), self.pool.inputs).take(self.pool_order)
        answered = outputs.answered_rows
        rows = self._sample(answered, n)
        unanswered = {"rows_not_answered": n - len(answered)}
        if outputs.kind != "spans":
            cut = (self.config.max_tokens_llm if is_prompted(outputs) else None) or self.config.max_tokens
            tokens, targets = self.pool_tokens(cut).take(rows), output_targets(outputs, rows)
            return Supervision(tokens, targets, rows, cut, unanswered)
        starts, ends, probabilities = unpack_spans(outputs.values[rows])
        tokens = self._questions(rows)
        tokens, targets, _, counts = self._spans(tokens, starts, ends, probabilities, "the outputs")
        # No pool rows: a question is tokenised otherwise than the same row read as a plain pair.
        return Supervision(tokens, targets, counts={**unanswered, **counts})

    def _questions(self, rows: NDArray[np.intp]) -> Tokens:
        """Rows of pool_order, read as questions with contexts; kept, for the next answerer has most likely the same."""
        key = rows.tobytes()
        if self._question_tokens is None or self._question_tokens[0] != key:
            inputs = self.pool.inputs.take(self.pool_order[rows])
            self._question_tokens = key, tokenise_with_offsets(self.surrogate, inputs, self.config.max_tokens_spans)
        return self._question_tokens[1]

    def _spans(
        self, tokens: Tokens, starts: NDArray[np.int64], ends: NDArray[np.int64], probabilities: Floats, what: str
    ) -> tuple[Tokens, Targets, NDArray[np.intp], dict[str, int]]:
        targets, kept, counts = span_targets(starts, ends, probabilities, tokens, self.surrogate.family)
        if len(kept) < 2:
            raise MethodError(
                f"{what}: {len(kept)} of {len(tokens)} answers lie within the first {self.config.max_tokens_spans} "
                "tokens; raise max_tokens_spans"
            )
        return tokens.take(kept), targets, kept, counts

    def _sample(self, rows: NDArray[np.intp], n_rows: int) -> NDArray[np.intp]:
        """At most max_rows of some of n_rows rows, in order. A model that left one row out still shares the others."""
        priority = np.random.default_rng(self._seed).permutation(n_rows)[rows]
        return np.sort(rows[np.argsort(priority)[: self.config.max_rows]])


def is_prompted(outputs: Outputs) -> bool:
    """A prompted LLM's outputs say how many calls they took."""
    return "calls" in outputs.details
