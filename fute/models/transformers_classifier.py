"""A fine-tuned transformers sequence classifier, from a local folder or the model hub."""

from __future__ import annotations

import logging
import re
from typing import Any

from fute.errors import foreign_code
from fute.fingerprint import fingerprint
from fute.models.encoding import encode, logits_of
from fute.models.pretrained import PretrainedModel
from fute.types import Floats, OutputKind, Outputs, TextTable

logger = logging.getLogger(__name__)


class TransformersClassifier(PretrainedModel):
    """A classifier (probabilities), a multi-label classifier or a regressor (scores)."""

    kind = "transformers"
    auto_class = "AutoModelForSequenceClassification"
    what = "a sequence classifier"
    purpose = "classification"

    @property
    def fingerprint(self) -> str:
        """From the digest of the files or the hub's commit; loads no weights.

        Raises:
            ModelError: no such model, or the hub cannot be reached.
        """
        return fingerprint(kind=self.kind, revision=self.source.revision, max_tokens=self._config.max_tokens)

    def outputs(self, table: TextTable) -> Outputs:
        with self._lock, foreign_code(self.id, "its forward pass"):
            model, tokenizer, device = self.loaded
            encoded = encode(tokenizer, table, self._config.max_tokens)
            logits = logits_of(model, tokenizer, encoded, self._config.batch_size, device)
        if encoded.n_truncated:
            logger.info("%s: %d of %d inputs were cut", self.id, encoded.n_truncated, len(table))
        kind, values = read_logits(logits, model.config.problem_type)
        return Outputs(kind, values, _label_names(model.config), details={"n_truncated": encoded.n_truncated})


def read_logits(logits: Floats, problem_type: str | None) -> tuple[OutputKind, Floats]:
    """Logits (n, c) as what they mean: probabilities, or scores for regression and for labels that do not exclude
    each other."""
    if logits.shape[1] == 1 or problem_type == "regression":
        return "scores", logits
    import torch

    tensor = torch.from_numpy(logits)
    if problem_type == "multi_label_classification":
        return "scores", tensor.sigmoid().numpy()
    return "probabilities", tensor.softmax(dim=1).numpy()


def _label_names(config: Any) -> tuple[str, ...] | None:
    names = tuple(str(config.id2label[i]) for i in range(config.num_labels))
    # LABEL_0, LABEL_1 ... is what transformers writes when nobody named the labels: such a name says nothing, and
    # two models that both have it do not share a label.
    return None if all(re.fullmatch(r"LABEL_\d+", name) for name in names) else names
