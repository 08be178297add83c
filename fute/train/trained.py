"""A source model that fute trained, back from its folder."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from fute.config import SurrogateConfig, TrainedModel
from fute.errors import foreign_code
from fute.train.backbone import FeaturesOf, backbone_config, computed_features
from fute.train.finetune import finetuned_classifier
from fute.train.probe import load_probe
from fute.train.result import TrainingResult, check_files, read_card
from fute.train.tfidf import load_tfidf
from fute.types import Floats, Outputs, TextTable


class Trained:
    """A trained model of the zoo; its fingerprint is its recipe's. Its files are checked when it is first asked."""

    kind = "trained"

    def __init__(self, model_id: str, card: TrainingResult, load: Callable[[], Callable[[TextTable], Floats]]) -> None:
        self.id = model_id
        self.card = card
        self._load = load

    @property
    def fingerprint(self) -> str:
        return self.card.fingerprint

    def outputs(self, table: TextTable) -> Outputs:
        with foreign_code(self.id, "the trained model"):
            return Outputs("probabilities", self._probabilities(table), self.card.label_names)

    @cached_property
    def _probabilities(self) -> Callable[[TextTable], Floats]:
        return self._load()


def load_trained(
    folder: Path,
    config: TrainedModel,
    *,
    base_dir: Path,
    surrogate_config: SurrogateConfig,
    features_of: FeaturesOf = computed_features,
) -> Trained:
    """The model that `train` put into a folder, which its fingerprint names. Weights are read when it is first asked.

    Args:
        config: as it was trained; says which backbone a probe needs.
        features_of: where a probe's backbone features come from; a caller may answer from a cache.

    Raises:
        ModelError: no trained model there.
    """
    card = read_card(folder)
    model_id = config.id or f"{card.recipe}/{card.dataset_id}"

    def load() -> Callable[[TextTable], Floats]:
        check_files(folder, card)
        n_classes = len(card.label_names)
        if card.recipe == "tfidf":
            return load_tfidf(folder, n_classes).probabilities
        if card.recipe == "probe":
            features = features_of(backbone_config(config, surrogate_config), base_dir)
            return load_probe(folder, n_classes, features).probabilities
        classifier = finetuned_classifier(folder, model_id, card.settings["max_tokens"], surrogate_config.device)
        return lambda table: classifier.outputs(table).values

    return Trained(model_id, card, load)
