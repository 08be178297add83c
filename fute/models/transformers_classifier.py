"""A fine-tuned transformers sequence classifier, from a local folder or the model hub."""

from __future__ import annotations

import logging
import re
import threading
from pathlib import Path
from typing import Any

import numpy as np

from fute.config import TransformersModel
from fute.fingerprint import fingerprint
from fute.models.encoding import encode, pad
from fute.models.foreign import foreign_code
from fute.models.pretrained import Checkpoint
from fute.types import Floats, OutputKind, Outputs, TextTable

logger = logging.getLogger(__name__)


class TransformersClassifier:
    """A classifier (probabilities), a multi-label classifier or a regressor (scores).

    Weights come from safetensors files only and no code of a model repository is run. Loaded when first asked.

    Args:
        device: auto, cpu, cuda, cuda:1, mps.
    """

    kind = "transformers"

    def __init__(self, config: TransformersModel, base_dir: Path, *, device: str = "auto") -> None:
        self.id = config.id
        self._config = config
        self._checkpoint = Checkpoint(
            config,
            base_dir,
            device,
            auto_class="AutoModelForSequenceClassification",
            what="a sequence classifier",
            purpose="classification",
        )
        self._lock = threading.Lock()

    @property
    def fingerprint(self) -> str:
        """From the digest of the files or the hub's commit; loads no weights.

        Raises:
            ModelError: no such model, or the hub cannot be reached.
        """
        return fingerprint(
            kind=self.kind, revision=self._checkpoint.source.revision, max_tokens=self._config.max_tokens
        )

    def outputs(self, table: TextTable) -> Outputs:
        import torch

        with self._lock, foreign_code(self.id, "its forward pass"):
            model, tokenizer, device = self._checkpoint.loaded
            encoded = encode(tokenizer, table, self._config.max_tokens)
            # Longest first: a batch that does not fit into memory shows at once.
            order = np.argsort(-encoded.lengths, kind="stable")
            logits = np.zeros((len(table), model.config.num_labels), np.float32)
            for start in range(0, len(order), self._config.batch_size):
                rows = order[start : start + self._config.batch_size]
                with torch.inference_mode():
                    logits[rows] = model(**pad(tokenizer, encoded, rows, device)).logits.float().cpu().numpy()
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
