"""A small real study, written to a folder: three datasets, a pool of four sources, a zoo, with faults where asked."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

PARTS: dict[str, dict[str, list[str]]] = {
    "mood": {
        "glad": ["what a joyful evening", "we laughed all day", "a lovely surprise", "I feel wonderful"],
        "sad": ["such a gloomy evening", "we wept all day", "a bitter loss", "I feel miserable"],
    },
    "topic": {
        "food": ["the soup needs salt", "bake the bread slowly", "fresh basil on pasta", "roast the carrots"],
        "travel": ["the train leaves at noon", "book a window seat", "the ferry was late", "pack a light bag"],
        "sport": ["she scored twice", "the match ended level", "he ran the marathon", "a save by the keeper"],
    },
    "asks": {
        "question": ["where is the key", "who called today", "when does it open", "why is it closed"],
        "statement": ["the key is here", "nobody called today", "it opens early", "it is closed"],
    },
}
ENDINGS = [
    "",
    " again",
    " today",
    " as usual",
    " in spring",
    " they said",
    " by the river",
    " at last",
    " for once",
    " now",
]

MODELS_MODULE = '''
"""Models of the small study."""
import os


def counted(texts, pairs):
    """Length parity: a rule; each call leaves a line in a file, so that a test can count calls."""
    with open(os.environ["FUTE_TEST_CALLS"], "a") as file:
        file.write(f"{len(texts)}\\n")
    return [[1.0, 0.0] if len(t.split()) % 2 else [0.0, 1.0] for t in texts]


def raises(texts, pairs):
    raise ZeroDivisionError("a fault of the model's own")


def nan(texts, pairs):
    return [[float("nan"), 1.0] for _ in texts]


def short(texts, pairs):
    return [[0.5, 0.5]]


def constant(texts, pairs):
    return [[0.5, 0.5] for _ in texts]
'''
FAULTS = ("raises", "nan", "short", "constant")


def rows_of(parts: dict[str, list[str]], n: int, seed: int) -> list[tuple[str, str]]:
    rng = random.Random(seed)
    every = [(f"{stem}{ending}", label) for label, stems in parts.items() for stem in stems for ending in ENDINGS]
    return rng.sample(every, min(n, len(every)))


def write_small_study(folder: Path, *, faults: bool = False, **overrides: Any) -> Path:
    """Write data, models and study.yaml below `folder`; returns the study file."""
    folder.mkdir(parents=True, exist_ok=True)
    datasets = []
    for number, (name, parts) in enumerate(PARTS.items()):
        rows = rows_of(parts, 60, number)
        for split, part in (("train", rows[:44]), ("test", rows[44:])):
            table = pa.table({"text": [t for t, _ in part], "label": [label for _, label in part]})
            pq.write_table(table, folder / f"{name}-{split}.parquet")
        datasets.append(
            {"id": name, "data": {"files": {"train": f"{name}-train.parquet", "test": f"{name}-test.parquet"}}}
        )
    rng = random.Random(9)
    for source in range(4):
        texts = [
            f"{rng.choice(['note', 'memo', 'line', 'story'])} {i}: "
            f"{rng.choice([s for parts in PARTS.values() for stems in parts.values() for s in stems])}"
            for i in range(20)
        ]
        (folder / f"pool-{source}.csv").write_text("text\n" + "\n".join(texts) + "\n")
    (folder / "small_models.py").write_text(MODELS_MODULE)
    models: list[dict[str, Any]] = [
        {"kind": "trained", "dataset": "*", "recipe": "tfidf"},
        {"kind": "trained", "dataset": "mood", "recipe": "finetune", "epochs": 1, "max_rows": 24, "batch_size": 8},
        {"kind": "python", "id": "counted", "entry_point": "small_models:counted"},
    ]
    if faults:
        models += [{"kind": "python", "id": fault, "entry_point": f"small_models:{fault}"} for fault in FAULTS]
    study = {
        "name": "small",
        "datasets": datasets,
        "pool": {"sources": [{"data": {"files": "pool-*.csv"}}], "rows_per_source": 15},
        "surrogate": {"max_tokens": 32},
        "methods": [
            {"method": "crosscov", "components": 16},
            {"method": "tupate", "epochs_dataset": 1, "epochs_model": 1},
        ],
        "models": models,
        **overrides,
    }
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(study, sort_keys=False))
    return path
