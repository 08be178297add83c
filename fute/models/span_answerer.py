"""A fine-tuned transformers question answerer: it points at the answer in the second text."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fute.errors import ModelError, foreign_code
from fute.fingerprint import fingerprint
from fute.models.encoding import pad
from fute.models.pretrained import PretrainedModel
from fute.models.span_candidates import Candidate, best_candidates, span_scores
from fute.span_contexts import context_lengths
from fute.spans import NO_ANSWER, UNUSED, pack_spans
from fute.types import Outputs, TextTable

if TYPE_CHECKING:
    import torch

    from fute.models.span_windows import Windows

logger = logging.getLogger(__name__)


class SpanAnswerer(PretrainedModel):
    """Reads the text as the question and the second text as the context; inputs without one are left unanswered."""

    kind = "span_answerer"
    auto_class = "AutoModelForQuestionAnswering"
    what = "a question answerer"
    purpose = "extractive question answering"

    @property
    def fingerprint(self) -> str:
        """From the digest of the files or the hub's commit; loads no weights.

        Raises:
            ModelError: no such model, or the hub cannot be reached.
        """
        settings = self._config.identity(exclude={"id", "task", "kind", "model", "revision", "batch_size"})
        return fingerprint(kind=self.kind, revision=self.source.revision, settings=settings)

    def outputs(self, table: TextTable) -> Outputs:
        from fute.models.span_windows import read_in_windows

        rows = np.flatnonzero(context_lengths(table)).tolist()
        if not rows or table.pairs is None:
            raise ModelError(
                f"{self.id}: none of {len(table)} inputs has a context; a span answerer needs inputs with a second "
                "text, so add sources with text_pair to the pool"
            )
        questions, contexts = ([column[row] or "" for row in rows] for column in (table.texts, table.pairs))
        with self._lock, foreign_code(self.id, "its forward pass"):
            model, tokenizer, device = self.loaded
            windows = read_in_windows(tokenizer, questions, contexts, self._config.max_tokens, self._config.stride)
            starts, ends = self._logits(model, tokenizer, windows, device)
        found = [self._candidates(windows, starts, ends, i) for i in range(len(rows))]
        details = {
            "rows_without_context": len(table) - len(rows),
            "rows_in_windows": int((np.bincount(windows.rows, minlength=len(rows)) > 1).sum()),
            "rows_no_answer": sum(bool(candidates) and candidates[0][0] == NO_ANSWER for candidates in found),
            "questions_cut": windows.questions_cut,
        }
        logger.info("%s: %s", self.id, details)
        return self._as_outputs(len(table), rows, found, details)

    def _logits(
        self, model: Any, tokenizer: Any, windows: Windows, device: torch.device
    ) -> tuple[list[NDArray[np.float64]], list[NDArray[np.float64]]]:
        """Start and end logits of each window, (its tokens,)."""
        import torch

        lengths = windows.encoded.lengths
        starts: list[NDArray[np.float64]] = [np.zeros(0)] * len(lengths)
        ends = list(starts)
        # Longest first: a batch that does not fit into memory shows at once.
        order = np.argsort(-lengths, kind="stable")
        for begin in range(0, len(order), self._config.batch_size):
            batch = order[begin : begin + self._config.batch_size]
            with torch.inference_mode():
                answer = model(**pad(tokenizer, windows.encoded, batch, device))
            for column, logits in ((starts, answer.start_logits), (ends, answer.end_logits)):
                for line, values in zip(batch, logits.double().cpu().numpy(), strict=True):
                    column[line] = values[: lengths[line]]  # padding is on the right
        return starts, ends

    def _candidates(
        self, windows: Windows, starts: list[NDArray[np.float64]], ends: list[NDArray[np.float64]], row: int
    ) -> list[Candidate]:
        own = windows.of_row(row)
        scores = span_scores(
            [starts[i][windows.context[i]] for i in own],
            [ends[i][windows.context[i]] for i in own],
            [int(windows.firsts[i]) for i in own],
            len(windows.offsets[row]),
            self._config.max_answer_tokens,
        )
        # A window without the answer says "no answer" although another one holds it, so the least sure one decides.
        null = min(float(starts[i][windows.nulls[i]] + ends[i][windows.nulls[i]]) for i in own)
        return best_candidates(
            scores, windows.offsets[row], null if self._config.no_answer else None, self._config.top_k
        )

    def _as_outputs(
        self, n_rows: int, rows: list[int], found: list[list[Candidate]], details: dict[str, int]
    ) -> Outputs:
        candidates = np.tile(np.array(UNUSED), (n_rows, self._config.top_k, 1))
        answered = np.zeros(n_rows, dtype=bool)
        for row, best in zip(rows, found, strict=True):
            if best:
                candidates[row, : len(best)] = best
                answered[row] = True
        values = pack_spans(candidates[:, :, 0], candidates[:, :, 1], candidates[:, :, 2])
        return Outputs("spans", values, answered=None if answered.all() else answered, details=details)
