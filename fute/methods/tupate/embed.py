"""The tupate method: a task's embedding is the prefix that teaches it to a frozen surrogate."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from fute.errors import MethodError
from fute.fingerprint import fingerprint
from fute.methods.tupate.config import TupateConfig
from fute.methods.tupate.targets import Targets, dataset_targets, output_targets
from fute.methods.tupate.train import Progress, initial_prefix, train_prefix
from fute.surrogate.load import Surrogate
from fute.surrogate.prefix_attention import attention_sites, enable_prefixes
from fute.surrogate.tokens import Tokens, pad_batch, tokenise
from fute.types import Dataset, Outputs, Pool, TaskEmbedding, TextTable


class Tupate:
    """Embeds datasets (from labels) and models (from outputs on the pool) as trained prefixes.

    The vector is the mean over layers of the trained prefix, or of its difference from the start that all embeddings
    of the space share: 2 x heads x prefix_tokens x head_dim numbers, unit length.

    Source: Zhou et al. 2022 (arXiv 2210.11705) for datasets, Wang et al. 2024 (arXiv 2402.14522) for models. The
    shared start, the difference and soft-label cross-entropy are this project's.
    """

    def __init__(
        self,
        config: TupateConfig,
        surrogate: Surrogate,
        pool: Pool,
        seed: int,
        progress: Progress | None = None,
    ) -> None:
        """Tokenise the pool and find the surrogate's attention layers.

        Raises:
            MethodError: the surrogate is not of the BERT family, or its layers differ in shape.
            SurrogateError: its attention takes no prefix.
        """
        if surrogate.family != "bert":
            raise MethodError(
                f"tupate takes surrogates of the BERT family; {surrogate.config.model} is of the {surrogate.family} "
                "family. Use method crosscov with it, or another surrogate"
            )
        self.config = config
        self.surrogate = surrogate
        self.pool = pool
        self.progress = progress
        enable_prefixes(surrogate.model)
        self._pool_tokens = self._tokens(pool.inputs)
        probe = pad_batch(surrogate, self._pool_tokens, np.array([int(self._pool_tokens.lengths.argmin())]))
        self._sites = attention_sites(lambda: surrogate.model(**probe))
        if len({(site.heads, site.head_dim) for site in self._sites}) != 1:
            raise MethodError(f"the attention layers of {surrogate.config.model} differ in shape; use method crosscov")
        # Each use of the seed draws from a stream of its own; all subjects of a space share these streams, so that
        # what is common to their training is common to their vectors.
        self._seeds = {use: int(fingerprint(seed=seed, use=use)[:15], 16) for use in ("start", "rows", "training")}
        self._start = initial_prefix(self._sites, config.prefix_tokens, self._seeds["start"])

    def dataset(self, dataset: Dataset) -> TaskEmbedding:
        """DTE: train on the labels of the training split.

        Raises:
            MethodError: span answers, one class only, class ids out of range, or training diverged.
        """
        n_rows = len(dataset.train)
        rows = self._sample(np.arange(n_rows), n_rows)
        targets = dataset_targets(dataset, rows)
        return self._embed(self._tokens(dataset.train.inputs.take(rows)), targets, self.config.epochs_dataset)

    def model(self, outputs: Outputs) -> TaskEmbedding:
        """MTE: train on the pool with the model's outputs as (soft) labels; rows without an answer are left out.

        Raises:
            OutputsError: wrong shape, not finite, constant, or too few answers.
            MethodError: the same answer for all rows used, or training diverged.
        """
        rows = self._sample(outputs.validate(len(self.pool)).answered_rows, len(self.pool))
        return self._embed(self._pool_tokens.take(rows), output_targets(outputs, rows), self.config.epochs_model)

    def _tokens(self, table: TextTable) -> Tokens:
        return tokenise(self.surrogate, table, self.config.max_tokens)

    def _sample(self, rows: NDArray[np.intp], n_rows: int) -> NDArray[np.intp]:
        """At most max_rows of some of n_rows rows, in order. A model that left one row out still shares the others."""
        priority = np.random.default_rng(self._seeds["rows"]).permutation(n_rows)[rows]
        return np.sort(rows[np.argsort(priority)[: self.config.max_rows]])

    def _embed(self, tokens: Tokens, targets: Targets, epochs: int) -> TaskEmbedding:
        trained = train_prefix(
            self.surrogate,
            self._sites,
            tokens,
            targets,
            self._start,
            config=self.config,
            epochs=epochs,
            seed=self._seeds["training"],
            progress=self.progress,
        )
        prefix = trained.prefix - self._start if self.config.embedding == "delta" else trained.prefix
        vector = prefix.mean(dim=0).flatten()  # (2 * heads * prefix_tokens * head_dim,)
        norm = float(torch.linalg.vector_norm(vector))
        if norm == 0:
            raise MethodError("training left the prefix as it was; raise the learning rate or the number of passes")
        return TaskEmbedding((vector / norm).numpy(), trained.metrics)
