"""The tupate method: a task's embedding is the prefix that teaches it to a frozen surrogate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from fute.errors import FuteError, MethodError
from fute.fingerprint import fingerprint
from fute.methods.embedder import Embedder
from fute.methods.supervision import Supervision, Supervisor, is_prompted
from fute.methods.tupate.config import TupateConfig
from fute.methods.tupate.prefixed import TrainingRows, initial_prefix
from fute.methods.tupate.train import Recipe, TrainedPrefix, train_prefixes
from fute.surrogate.checkpointing import enable_checkpointing
from fute.surrogate.load import Surrogate, frozen_copy
from fute.surrogate.prefix_attention import AttentionSite, attention_sites, enable_prefixes, fastest_kernel
from fute.surrogate.reader import Reader
from fute.surrogate.states import token_states
from fute.types import Dataset, Outputs, Pool, TaskEmbedding


class Tupate(Embedder):
    """Embeds datasets (from labels) and models (from outputs on the pool) as trained prefixes.

    The vector is the mean over layers of the trained prefix, or of its difference from where it started, at unit
    length: keys, then values, of the self-attention; with T5 those of the decoder's cross-attention after them. So
    2 x heads x prefix_tokens x head_dim numbers, twice as many with T5.

    Source: Zhou et al. 2022 (arXiv 2210.11705) for datasets, Wang et al. 2024 (arXiv 2402.14522) for models. The
    shared start, the difference and soft-label cross-entropy are this project's.
    """

    pseudo_tasks = 12
    """Each is trained as any subject is."""

    def __init__(self, config: TupateConfig, surrogate: Surrogate, pool: Pool, seed: int) -> None:
        """Tokenise the pool and find the surrogate's attention layers.

        Args:
            surrogate: a T5 must have been loaded whole.

        Raises:
            MethodError: the surrogate's layers differ in shape, or a T5's decoder is missing.
            SurrogateError: its attention takes no prefix, or its layers cannot be checkpointed where that is wanted.
        """
        if surrogate.family == "t5" and not hasattr(surrogate.model, "decoder"):
            raise MethodError(
                f"{surrogate.config.model} was loaded without its decoder, where tupate puts its prefixes; "
                "load it with load_surrogate(..., whole=True)"
            )
        self.config = config
        # Its own: prefixes and checkpointing are set on the modules.
        self.surrogate = surrogate = frozen_copy(surrogate)
        self._group_size = config.group_size(surrogate.device.type)
        fastest = fastest_kernel(surrogate.device, surrogate.config.dtype)
        enable_prefixes(surrogate.model, fastest if config.kernel == "auto" else config.kernel)
        if config.checkpointing:
            enable_checkpointing(surrogate.model)
        self.supervisor = Supervisor(surrogate, pool, config, seed)
        # All of them now: what is left of keep_gib for others must not depend on which subject comes first.
        self._pool_readers: dict[int, Reader] = {}
        for max_tokens in dict.fromkeys([config.max_tokens, config.max_tokens_llm or config.max_tokens]):
            tokens = self.supervisor.pool_tokens(max_tokens)
            reader = Reader(surrogate, tokens, self._memory_left(), self.supervisor.usual_rows)
            self._pool_readers[max_tokens] = reader
        self._sites = self._find_sites()
        # Each use of the seed draws from a stream of its own; all subjects of a space share these streams, so that
        # what is common to their training is common to their vectors.
        self._seed = seed
        self._training_seed = self._seed_for("training")
        self._shared_start = initial_prefix(self._sites, config.prefix_tokens, self._seed_for("start"))

    def dataset(self, dataset: Dataset) -> TaskEmbedding:
        """DTE: train on the labels of the training split.

        Raises:
            MethodError: one class or value only, class ids out of range, answers all cut off, or training diverged.
        """
        if self.config.patience is None:
            supervision, held_out = self.supervisor.dataset(dataset), None
        else:
            supervision, held_out = self.supervisor.dataset_with_held_out(dataset)
        spans = dataset.task == "span_qa"
        recipe = self._recipe(
            epochs=self.config.epochs_dataset,
            batch_size=self.config.batch_size_dataset,
            learning_rate=self.config.learning_rate_spans if spans else self.config.learning_rate_dataset,
            patience=self.config.patience,
        )
        return _or_raise(self._embed([supervision], [dataset.fingerprint], recipe, held_out)[0])

    def model(self, outputs: Outputs) -> TaskEmbedding:
        """MTE: train on the pool with the model's outputs as (soft) labels; rows without an answer are left out.

        Raises:
            OutputsError: wrong shape, not finite, constant, or too few answers.
            MethodError: the same answer for all rows used, or training diverged.
        """
        return _or_raise(self.models([outputs])[0])

    def models(self, outputs: Sequence[Outputs]) -> list[TaskEmbedding | FuteError]:
        """MTEs of several models. Those that are learned from the same rows are trained together."""
        results: dict[int, TaskEmbedding | FuteError] = {}
        together: dict[tuple[int, object], list[tuple[int, Supervision]]] = {}
        for i, each in enumerate(outputs):
            try:
                supervision = self.supervisor.model(each)
            except FuteError as exc:
                results[i] = exc
                continue
            # Answer spans bring their own rows; no two models are likely to share them.
            rows = i if supervision.pool_rows is None else (supervision.max_tokens, supervision.pool_rows.tobytes())
            together.setdefault((self._passes(each), rows), []).append((i, supervision))
        for (passes, _), members in together.items():
            recipe = self._recipe(
                epochs=passes,
                batch_size=self.config.batch_size_model,
                learning_rate=self.config.learning_rate_model,
            )
            numbers = [i for i, _ in members]
            subjects = [outputs[i].fingerprint for i in numbers]
            made = self._embed_in_groups([supervision for _, supervision in members], subjects, recipe)
            results.update(zip(numbers, made, strict=True))
        return [results[i] for i in range(len(outputs))]

    def _embed_in_groups(
        self, supervisions: Sequence[Supervision], subjects: Sequence[str], recipe: Recipe
    ) -> list[TaskEmbedding | FuteError]:
        results: list[TaskEmbedding | FuteError] = []
        while len(results) < len(supervisions):
            group = slice(len(results), len(results) + self._group_size)
            try:
                results += self._embed(supervisions[group], subjects[group], recipe)
            except torch.OutOfMemoryError:
                self._group_size = max(1, len(supervisions[group]) // 2)
        return results

    def _embed(
        self,
        supervisions: Sequence[Supervision],
        subjects: Sequence[str],
        recipe: Recipe,
        held_out: Supervision | None = None,
    ) -> list[TaskEmbedding | FuteError]:
        """Vectors of subjects that are learned from the same rows."""
        starts = torch.stack([self._start(subject) for subject in subjects])
        try:
            rows = self._rows(supervisions[0])
            trained = train_prefixes(
                self._sites,
                rows,
                [supervision.targets for supervision in supervisions],
                starts,
                recipe,
                seed=self._training_seed,
                held_out=None if held_out is None else self._rows(held_out, beside=rows.reader),
            )
        except torch.OutOfMemoryError as exc:
            if len(supervisions) > 1:
                raise
            advice = "lower batch_size_dataset, batch_size_model, max_tokens or keep_gib, or set checkpointing to true"
            return [MethodError(f"one prefix does not fit into memory; {advice} ({exc})")]
        return [
            each if isinstance(each, MethodError) else self._embedding(each, start, supervision)
            for each, start, supervision in zip(trained, starts, supervisions, strict=True)
        ]

    def _embedding(
        self, trained: TrainedPrefix, start: Tensor, supervision: Supervision
    ) -> TaskEmbedding | MethodError:
        prefix = trained.prefix - start if self.config.embedding == "delta" else trained.prefix
        # T5's layers have two sites each, self- and cross-attention in turn.
        vector = prefix.unflatten(0, (-1, self._sites_per_layer)).mean(dim=0).flatten()
        norm = float(torch.linalg.vector_norm(vector))
        if norm == 0 or torch.equal(trained.prefix, start):
            return MethodError("training left the prefix as it was; raise the learning rate or the number of passes")
        counts = {name: float(n) for name, n in supervision.counts.items()}
        return TaskEmbedding((vector / norm).numpy(), {**trained.metrics, **counts})

    @property
    def _sites_per_layer(self) -> int:
        return 2 if self.surrogate.family == "t5" else 1

    def _find_sites(self) -> list[AttentionSite]:
        tokens = self.supervisor.pool_tokens()
        shortest = np.array([int(tokens.lengths.argmin())])
        # What T5's encoder does happens while nobody watches: its attention gets no prefix.
        probe = Reader(self.surrogate, tokens.take(shortest), 0.0).read(np.array([0]))
        sites = attention_sites(lambda: token_states(self.surrogate, probe.batch, cross=probe.cross))
        if len({(site.heads, site.head_dim) for site in sites}) != 1:
            raise MethodError(
                f"the attention layers of {self.surrogate.config.model} differ in shape; use method crosscov"
            )
        return sites

    def _rows(self, supervision: Supervision, beside: Reader | None = None) -> TrainingRows:
        """
        Args:
            beside: a reader in use at the same time; with this and the pool's it shares the memory of keep_gib.
        """
        if supervision.pool_rows is not None:
            return TrainingRows(supervision, self._pool_readers[supervision.max_tokens], supervision.pool_rows)
        left = self._memory_left() - (0.0 if beside is None else beside.kept_gib)
        reader = Reader(self.surrogate, supervision.tokens, left)
        return TrainingRows(supervision, reader, np.arange(len(supervision)))

    def _memory_left(self) -> float:
        """GiB of keep_gib that no reader of the pool holds."""
        return self.config.keep_gib - sum(reader.kept_gib for reader in self._pool_readers.values())

    def _passes(self, outputs: Outputs) -> int:
        if self.config.epochs_llm is not None and is_prompted(outputs):
            return self.config.epochs_llm
        return self.config.epochs_model

    def _start(self, subject: str) -> Tensor:
        if self.config.start == "shared":
            return self._shared_start
        return initial_prefix(self._sites, self.config.prefix_tokens, self._seed_for("start", subject))

    def _recipe(self, *, epochs: int, batch_size: int, learning_rate: float, patience: int | None = None) -> Recipe:
        return Recipe(
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            patience=patience,
            warmup=self.config.warmup,
            dropout=self.config.dropout,
            loss=self.config.loss,
            pooling=self.config.pooling,
        )

    def _seed_for(self, use: str, subject: str | None = None) -> int:
        parts = {"seed": self._seed, "use": use} | ({} if subject is None else {"subject": subject})
        return int(fingerprint(**parts)[:15], 16)


def _or_raise(result: TaskEmbedding | FuteError) -> TaskEmbedding:
    if isinstance(result, FuteError):
        raise result
    return result
