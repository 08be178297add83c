"""The taskemb method: a task's embedding says which weights of a surrogate matter to it."""

from __future__ import annotations

import copy
import hashlib
import threading
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fute.errors import MethodError
from fute.fingerprint import fingerprint
from fute.methods.embedder import Embedder
from fute.methods.heads import Head
from fute.methods.supervision import Supervision, Supervisor
from fute.methods.taskemb.config import TaskembConfig
from fute.methods.taskemb.coverage import Coverage, find_coverage
from fute.methods.taskemb.finetune import answers_and_losses, fine_tune
from fute.methods.taskemb.fisher import fisher_information
from fute.methods.taskemb.projection import SparseProjection
from fute.methods.taskemb.row_gradients import Totals
from fute.surrogate.load import Surrogate
from fute.surrogate.prefix_attention import enable_prefixes, fastest_kernel, takes_prefixes
from fute.surrogate.states import token_states
from fute.surrogate.tokens import mean_over_mask, pad_batch, parts_of_like_length
from fute.types import Dataset, Outputs, Pool, TaskEmbedding


class Taskemb(Embedder):
    """Embeds datasets (from labels) and models (from outputs on the pool) as Fisher information.

    A copy of the whole surrogate is fine-tuned with a new head; the vector is the diagonal Fisher information of the
    surrogate's parameters (not the head's, whose size differs by task), a shared one counted once, projected to `dim`
    numbers, unit length. The surrogate itself is left as it was.

    Memory is that of fine-tuning: two copies of the weights, and while it trains gradients and AdamW's two means; these
    have gone when the information, one number for each parameter, is measured. Models are embedded one after the other:
    every one trains all weights, so K together would need K copies and K times the work.

    Source: Vu et al. 2020 (arXiv 2005.00770) for datasets, Wang et al. 2024 (arXiv 2402.14522) for models.
    """

    pseudo_tasks = 12
    """Each is trained as any subject is."""

    def __init__(self, config: TaskembConfig, surrogate: Surrogate, pool: Pool, seed: int) -> None:
        """Copy the surrogate, tokenise the pool and find out how each parameter's row gradients can be had.

        Raises:
            MethodError: a T5 without its decoder, or gradients that are not numbers.
        """
        if surrogate.family == "t5" and not hasattr(surrogate.model, "decoder"):
            raise MethodError(f"taskemb needs all of {surrogate.config.model}; load it with whole=True")
        self.config = config
        # Each use of the seed draws from a stream of its own; all subjects of a space share these streams.
        self._seeds = {use: int(fingerprint(seed=seed, use=use)[:15], 16) for use in ("training", "fisher rows")}
        self._supervisor = Supervisor(surrogate, pool, config, seed)
        self._projection = SparseProjection(config.dim, seed)
        self._pretrained = surrogate
        self._tuned = replace(surrogate, model=copy.deepcopy(surrogate.model))
        if takes_prefixes(self._tuned.model):
            # Not for a prefix: these kernels take one, but without one they compute what the model's own do.
            enable_prefixes(self._tuned.model, fastest_kernel(surrogate.device, surrogate.config.dtype))
        self._one_at_a_time = threading.Lock()  # there is one copy to train
        self.coverage = self._find_coverage()

    def dataset(self, dataset: Dataset) -> TaskEmbedding:
        """DTE: fine-tune on the labels of the training split.

        Raises:
            MethodError: labels that check_labels refuses, no answers left, training diverged, or too little memory.
        """
        return self._embed(self._supervisor.dataset(dataset), self.config.epochs_dataset)

    def model(self, outputs: Outputs) -> TaskEmbedding:
        """MTE: fine-tune on the pool with the model's outputs as (soft) labels; rows without an answer are left out.

        Raises:
            OutputsError: wrong shape, not finite, constant, or too few answers.
            MethodError: the same answer for all rows used, no answers left, training diverged, or too little memory.
        """
        return self._embed(self._supervisor.model(outputs), self.config.epochs_model)

    def _embed(self, supervision: Supervision, epochs: int) -> TaskEmbedding:
        supervision = by_content(supervision)
        no_memory = ""
        with self._one_at_a_time:
            try:
                head, metrics = self._fine_tune(supervision, epochs)
                information = self._information(head, supervision)
            except torch.OutOfMemoryError as exc:
                no_memory = str(exc)
        if no_memory:
            # Raised only here: with the other error as its cause it would keep what filled the memory.
            advice = "lower batch_size, fisher_batch_size or max_tokens, or take a smaller surrogate"
            raise MethodError(f"fine-tuning does not fit into memory; {advice} ({no_memory})")
        vector = np.zeros(self.config.dim)
        for name in sorted(information):
            values = information.pop(name)  # freed once it is projected
            vector += self._projection.project(name, scaled(values, self.config).cpu().numpy())
        norm = float(np.linalg.norm(vector))
        if not np.isfinite(norm) or norm == 0:
            raise MethodError(f"the projected information has length {norm}; change the learning rates")
        counts = {name: float(n) for name, n in supervision.counts.items()}
        return TaskEmbedding((vector / norm).astype(np.float32), {**metrics, **counts})

    def _fine_tune(self, supervision: Supervision, epochs: int) -> tuple[Head, dict[str, float]]:
        model = self._tuned.model
        with torch.no_grad():
            for tuned, pretrained in zip(model.parameters(), self._pretrained.model.parameters(), strict=True):
                tuned.requires_grad_(False).copy_(pretrained)
        parameters = dict(model.named_parameters())
        spans = supervision.targets.objective == "spans"
        try:
            return fine_tune(
                self._tuned,
                [parameters[name] for name in self.coverage.used],
                supervision,
                config=self.config,
                epochs=epochs,
                learning_rate=self.config.learning_rate_spans if spans else self.config.learning_rate,
                seed=self._seeds["training"],
            )
        finally:
            model.eval().zero_grad(set_to_none=True)

    def _information(self, head: Head, supervision: Supervision) -> Totals:
        frozen = Head(head.weight.detach(), head.bias.detach())

        def losses_of(rows: NDArray[np.intp]) -> Tensor:
            return answers_and_losses(self._tuned, frozen, supervision, rows, self.config)[1]

        return fisher_information(
            self._tuned.model, self.coverage, losses_of, self._fisher_batches(supervision), self.config.estimator
        )

    def _fisher_batches(self, supervision: Supervision) -> Sequence[NDArray[np.intp]]:
        """Batches of like length; for estimator `batch`, whose value depends on them, as the rows stand."""
        rows = np.arange(len(supervision))
        if self.config.fisher_rows is not None:
            shuffled = np.random.default_rng(self._seeds["fisher rows"]).permutation(rows)
            rows = np.sort(shuffled[: self.config.fisher_rows])
        if self.config.estimator == "batch":
            return _in_batches(rows, self.config.batch_size)
        lengths = supervision.tokens.lengths
        by_length = rows[np.argsort(lengths[rows], kind="stable")]
        batches = _in_batches(by_length, self.config.fisher_batch_size)
        return [part for batch in batches for part in parts_of_like_length(lengths, batch)]

    def _find_coverage(self) -> Coverage:
        """Compare on three rows of the pool (two if their lengths are three), in float32 whatever the settings."""
        exact = replace(self._tuned, config=self._tuned.config.model_copy(update={"dtype": "float32"}))
        tokens = self._supervisor.pool_tokens()
        by_length = np.argsort(tokens.lengths, kind="stable")
        by_length = by_length[: 1 + int(np.searchsorted(tokens.lengths[by_length], 32, side="right"))]
        rows = np.unique(by_length[[0, len(by_length) // 2, -1]])
        if tokens.lengths[rows].max() == len(rows):
            rows = rows[1:]
        generator = torch.Generator().manual_seed(0)
        direction = torch.randn(self._tuned.width, generator=generator).to(self._tuned.device)

        def losses_of(chosen: NDArray[np.intp]) -> Tensor:
            batch = pad_batch(exact, tokens, chosen)
            states = token_states(exact, batch)  # every token counts, and each otherwise than the others
            means = mean_over_mask(states.square() + states, batch["attention_mask"])
            return (means @ direction.to(means.dtype)).square()

        return find_coverage(self._tuned.model, losses_of, rows)


def _in_batches(rows: NDArray[np.intp], size: int) -> list[NDArray[np.intp]]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def by_content(supervision: Supervision) -> Supervision:
    """The same rows in an order that looks random but follows from their tokens and targets alone.

    So a dataset and a model that teach the same rows get the same vector.
    """
    tokens, targets = supervision.tokens, supervision.targets

    def key(row: int) -> tuple[bytes, bytes]:
        types = [] if tokens.type_ids is None else tokens.type_ids[row]
        text = hashlib.sha256(np.array([*tokens.ids[row], -1, *types], dtype=np.int64).tobytes()).digest()
        # Only between rows of one text: the order of classes, or a unit, must not reach the others.
        return text, targets.values[row].tobytes()

    return supervision.take(np.array(sorted(range(len(supervision)), key=key)))


def scaled(values: Tensor, config: TaskembConfig) -> Tensor:
    """The information of one tensor of parameters, as it enters the vector."""
    if config.scale == "sqrt":
        values = values.sqrt()
    if config.balance and bool(values.any()):
        values = values / torch.linalg.vector_norm(values)
    return values
