"""What a training came to, and the card that is kept beside the trained model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from fute.errors import ModelError
from fute.fingerprint import digest_file

CARD = "card.json"
FORMAT = 1


@dataclass(frozen=True)
class TrainingResult:
    """A trained model, told apart by its recipe's fingerprint.

    Attributes:
        fingerprint: of the recipe: settings, dataset, backbone, seed.
        recipe: tfidf, probe or finetune.
        settings: what the recipe was given.
        dataset_id, dataset_fingerprint: what it was trained on.
        label_names: what the columns of its probabilities stand for.
        seed: of sampling, splitting and training.
        score: accuracy on the held-out rows.
        majority: what the most frequent class would score there.
        held_out: "test", "validation", or "train" where a part of the training rows was kept aside.
        n_train, n_held_out: rows.
        metrics: macro_f1, log_loss and what else the recipe measures.
        seconds: of the training, scoring included.
        backbone: identity of the pretrained model, where there is one.
        files: name -> SHA-256 of every file of the model.
    """

    fingerprint: str
    recipe: str
    settings: Mapping[str, Any]
    dataset_id: str
    dataset_fingerprint: str
    label_names: tuple[str, ...]
    seed: int
    score: float
    majority: float
    held_out: str
    n_train: int
    n_held_out: int
    metrics: Mapping[str, float]
    seconds: float
    backbone: Mapping[str, Any] | None
    files: Mapping[str, str]


def write_card(result: TrainingResult, folder: Path) -> None:
    text = json.dumps({"format": FORMAT, **asdict(result)}, indent=1, sort_keys=True, allow_nan=False)
    (folder / CARD).write_text(text + "\n", encoding="utf-8")


def read_card(folder: Path) -> TrainingResult:
    """The card of a trained model.

    Raises:
        ModelError: no card, or one that this version cannot read.
    """
    path = folder / CARD
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise ModelError(f"{path} is no card of a trained model ({exc}); train it again") from exc
    expected = {field.name for field in fields(TrainingResult)} | {"format"}
    if not isinstance(card, dict) or card.get("format") != FORMAT or set(card) != expected:
        raise ModelError(f"{path} was written by another version of fute; train the model again")
    del card["format"]
    return TrainingResult(**{**card, "label_names": tuple(card["label_names"])})


def digest_files(folder: Path) -> dict[str, str]:
    """Name -> SHA-256 of every file below a folder but its card."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / CARD)
    return {path.relative_to(folder).as_posix(): digest_file(path) for path in files}


def check_files(folder: Path, result: TrainingResult) -> None:
    """Refuse a trained model whose files are not those that its training wrote.

    Raises:
        ModelError: a file is missing, added or changed.
    """
    found = digest_files(folder)
    for name in sorted(found.keys() | result.files.keys()):
        if found.get(name) != result.files.get(name):
            raise ModelError(
                f"{folder / name} is not the file that the training wrote; remove {folder} and train again"
            )
