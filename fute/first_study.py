"""A first study from what lies in a folder: every entry tried, what does not work left out and said."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path, PurePath
from typing import Any

import yaml

from fute.config import DatasetConfig, PoolConfig, PredictionsModel
from fute.data.duplicates import normalised
from fute.data.ingest import ingest
from fute.data.pool import EvaluatedTexts, build_pool
from fute.errors import ConfigError, DataError, FuteError
from fute.found_files import Rows, look_at
from fute.load_study import check_study, study_from_mapping
from fute.models.predictions_table import PredictionsTable
from fute.terminal import printable
from fute.types import Dataset, Pool

# Words in the names of files, and the split that they stand for.
SPLITS = {"train": "train", "validation": "validation", "valid": "validation", "val": "validation",
          "dev": "validation", "test": "test"}  # fmt: skip
POOL_ROWS = 1500
GLOB_FROM = 3
Entry = dict[str, Any]


@dataclass
class FirstStudy:
    """A study in the making.

    Attributes:
        folder: what it is made of.
        datasets: entries of the study.
        models: entries of the study.
        taken: what of the folder is in it, and as what.
        left: what is not, and why.
        text: the study file.
    """

    folder: Path
    datasets: list[Entry] = field(default_factory=list)
    models: list[Entry] = field(default_factory=list)
    taken: dict[str, str] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)
    text: str = ""

    def new_id(self, name: str) -> str:
        """A name that a study may hold, and that no other entry has."""
        wanted, there = as_id(name), {entry.get("id") for entry in [*self.datasets, *self.models]}
        numbered = (f"{wanted}-{number}" for number in count(2))
        return wanted if wanted not in there else next(id_ for id_ in numbered if id_ not in there)

    def add_dataset(self, name: str, parts: dict[str, Rows]) -> Dataset | None:
        """Add a labelled dataset, if it can be read as one.

        Args:
            parts: its files, by split.
        """
        first = parts["train"]
        paths = {split: parts[split].path for split in ("train", "validation", "test") if split in parts}
        if len(first.labels) > 1:
            told = f"any of {', '.join(first.labels)} may be the label; rename the one that is meant to `label`"
            self.left |= dict.fromkeys(paths.values(), told)
            return None
        entry: Entry = {"id": self.new_id(name), "data": {"files": first.path if len(paths) == 1 else paths}}
        named = {"text": first.text, "text_pair": first.pair, "label": first.labels[0]}
        usual = {"text": "text", "text_pair": None, "label": "label"}
        entry |= {what: column for what, column in named.items() if column != usual[what]}
        refused = ""
        for more in ({}, {"skip_bad_rows": True}, {"task": "regression"}, {"task": "span_qa"}):
            try:
                dataset = ingest(DatasetConfig.model_validate(entry | more), self.folder, 0)
            except FuteError as exc:
                refused = refused or str(exc)
                continue
            self.datasets.append(entry | more)
            labels = f"{len(dataset.label_names)} labels" if dataset.label_names else "answers"
            texts = first.text if first.pair is None else f"{first.text} and {first.pair}"
            told = f"texts in {texts}, {labels} in {first.labels[0]}"
            told += "; rows without text or label are left out" if "skip_bad_rows" in more else ""
            told += f"; not used: {', '.join(first.rest)}" if first.rest else ""
            self.taken |= {path: f"dataset {entry['id']}, {split}: {told}" for split, path in paths.items()}
            return dataset
        self.left |= dict.fromkeys(paths.values(), _first_problem(refused))
        return None

    def add_predictions(self, rows: Rows, pool: Pool) -> None:
        """Add a table of predictions, if its texts are in the pool."""
        if rows.text is None:
            self.left[rows.path] = (
                f"its rows are numbered by a pool: add {{kind: predictions, id: ..., file: {rows.path}, label: "
                f"{rows.predicted}, pool: ID}} with the id of that pool"
            )
            return
        entry: Entry = {"kind": "predictions", "id": self.new_id(_stem(rows.path)), "file": rows.path}
        entry |= {"row": None, "text": rows.text, "label": rows.predicted}
        entry |= {"text_pair": rows.pair} if rows.pair is not None else {}
        try:
            answers = PredictionsTable(PredictionsModel.model_validate(entry), self.folder).outputs(pool.inputs)
            answers.validate(len(pool))
        except FuteError as exc:
            self.left[rows.path] = f"its texts are in the pool, but its predictions cannot be used: {exc}"
            return
        self.models.append(entry)
        answered = f"answers {len(answers.answered_rows)} of {len(pool)} rows of the pool"
        self.taken[rows.path] = f"model {entry['id']}, kind predictions: {rows.predicted} by {rows.text}, {answered}"


def first_study(folder: Path) -> FirstStudy:
    """Look at a folder and write a study of what is there; nothing is written to disk.

    Raises:
        ConfigError: there is nothing to embed, with what was left and why.
    """
    found = look_at(folder)
    study = FirstStudy(folder, left=found.left)
    labelled = [rows for rows in found.rows if rows.labels and not rows.predicted]
    unlabelled = [rows for rows in found.rows if rows.text and (rows.predicted or not rows.labels)]
    groups = _grouped(labelled, folder)
    made = {name: study.add_dataset(name, parts) for name, parts in groups.items()}
    datasets = [dataset for dataset in made.values() if dataset is not None]
    if any(dataset.task == "classification" for dataset in datasets):
        study.models.append({"kind": "trained", "recipe": "tfidf", "dataset": "*"})
    for name, kind in found.models.items():
        study.models.append({"kind": kind, "id": study.new_id(PurePath(name).name), "model": f"./{name}"})
        study.taken[name] = f"model {study.models[-1]['id']}, kind {kind}"

    entry = _pool_entry(unlabelled, folder)
    pool = _made(entry, folder, datasets)
    if pool is None:
        entry = {"exclude_evaluated": False, **_pool_entry(labelled, folder)}
        pool = _made(entry, folder, datasets)
    else:
        study.taken |= {rows.path: f"texts of the pool, in {rows.text}" for rows in unlabelled}
        every = _made({**entry, "exclude_evaluated": False}, folder, [])
        for name, dataset in made.items():
            if dataset is not None and every is not None and _answers(dataset, every):
                for rows in groups[name].values():
                    model = f"file: {rows.path}, row: null, text: {rows.text}, label: {rows.labels[0]}"
                    study.taken[rows.path] += (
                        "; its texts are most of the unlabelled ones: if these labels are what a model answered, take "
                        f"it out, and add {{kind: predictions, id: ..., {model}}} to `models`"
                    )
    for rows in found.rows:
        if rows.predicted and pool is not None:
            study.add_predictions(rows, pool)
    if pool is None or not (study.datasets or study.models):
        left = "".join(f"\n  {name}: {why}" for name, why in study.left.items())
        lacking = "texts" if pool is None else "a labelled dataset, or a model"
        raise ConfigError(
            f"{folder} holds nothing to start from: it lacks {lacking}. Put in files with a column of texts and one of "
            f"labels (CSV, JSONL, Parquet, Excel), or a folder of .txt files for each label{left}"
        )
    study.text = _written(study, entry)
    check_study(study_from_mapping(yaml.safe_load(study.text), folder))
    return study


def _first_problem(refused: str) -> str:
    """Of a refusal of several lines the first thing that is wrong."""
    lines = [line.strip() for line in refused.splitlines()]
    return next((line.removeprefix("- ") for line in lines if line.startswith("- ")), lines[0])


def _pool_entry(sources: list[Rows], folder: Path) -> Entry:
    """The pool's sources; files of one folder, ending and column by a glob where it matches no others."""
    alike: dict[tuple[str, str | None, str | None], list[Rows]] = {}
    for rows in sources:
        path = PurePath(rows.path)
        pattern = (path.parent / f"*{''.join(path.suffixes[-1:])}").as_posix() if path.suffix else rows.path
        alike.setdefault((pattern, rows.text, rows.pair), []).append(rows)
    stems = Counter(_stem(rows.path) for rows in sources)
    entries: list[Entry] = []
    for (pattern, text, pair), alike_rows in alike.items():
        columns = {what: name for what, name in (("text", text), ("text_pair", pair)) if name not in ("text", None)}
        paths = [rows.path for rows in alike_rows]
        if len(paths) >= GLOB_FROM and sorted(f.relative_to(folder).as_posix() for f in folder.glob(pattern)) == paths:
            parent = PurePath(pattern).parent.as_posix()
            twice = parent != "." and any(stems[_stem(file)] > 1 for file in paths)
            entries.append({**({"id": as_id(parent)} if twice else {}), "data": {"files": pattern}, **columns})
            continue
        for file in paths:  # a source is called like its file, where no other is
            twice = stems[_stem(file)] > 1
            entries.append({**({"id": as_id(file)} if twice else {}), "data": {"files": file}, **columns})
    return {"sources": entries, "rows_per_source": max(15, POOL_ROWS // max(1, len(sources)))}


def _made(pool: Entry, folder: Path, datasets: list[Dataset]) -> Pool | None:
    if not pool["sources"]:
        return None
    try:
        made = build_pool(PoolConfig.model_validate(pool), folder, 0, datasets)
    except DataError:  # nothing is left of it: its texts are those of the datasets
        return None
    return made if len(made) >= 8 else None


def _answers(dataset: Dataset, pool: Pool) -> bool:
    """Whether most texts of a pool are a dataset's: then its labels may be answers to them."""
    return bool(EvaluatedTexts.of([dataset]).matches(pool.inputs, normalised(pool.inputs))[1].mean() > 0.5)


def _grouped(labelled: list[Rows], folder: Path) -> dict[str, dict[str, Rows]]:
    """Files by dataset and split: `a/train.csv` and `a/test.csv`, or `a_train.csv` and `a-test.csv`, are one."""
    groups: dict[str, dict[str, Rows]] = {}
    for rows in labelled:
        words = re.split(r"[-_.]", _stem(rows.path))
        split = next((SPLITS[word.lower()] for word in words if word.lower() in SPLITS), None)
        rest = "-".join(word for word in words if word.lower() not in SPLITS)
        name = (PurePath(rows.path).parent / rest).as_posix()
        parts = groups.setdefault(folder.resolve().name if name == "." else name, {})
        if (split or "train") in parts:  # `a.csv` and `a.jsonl` are two
            parts = groups.setdefault(rows.path, {})
        parts[split or "train"] = rows
    for parts in groups.values():
        if "train" not in parts:  # a test split alone is a dataset as well
            parts["train"] = parts.pop("validation" if "validation" in parts else "test")
    return groups


def _stem(path: str) -> str:
    return PurePath(path).name.split(".")[0]


def as_id(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._/+-]+", "-", name).lstrip("._/+-")[:90] or "data"


def _written(study: FirstStudy, pool: Entry) -> str:
    lines = [
        "# Written by `fute init` from what lies in this folder; yours to change. `fute schema SECTION` explains a",
        "# part of it, `fute check study.yaml` says what a run would do, `fute run study.yaml` does it. What it makes",
        "# lies in store/ beside this file; from other folders commands find it by --store, or FUTE_STORE.",
        f"name: {as_id(study.folder.resolve().name)}",
    ]
    if study.datasets:
        lines += ["", "# Labelled rows: what a dataset is about becomes a vector.", "datasets:"]
        lines += [f"  - {_flow(entry)}" for entry in study.datasets]
    lines += ["", "# Unlabelled texts that every model answers. Many small sources are best.", "pool:"]
    if pool.get("exclude_evaluated") is False:
        lines += [
            "  # No other texts were found, so these are the datasets' own, which models that were trained on them",
            "  # answer too well. Put in unlabelled texts of the same kind, and take the next line out.",
            "  exclude_evaluated: false",
        ]
    lines += [f"  rows_per_source: {pool['rows_per_source']}   # at most, of each", "  sources:"]
    lines += [f"    - {_flow(entry)}" for entry in pool["sources"]]
    if study.models:
        lines += ["", "# Whatever answers: what a model does with the pool becomes a vector too.", "models:"]
        lines += [f"  - {_flow(entry)}" for entry in study.models]
    if study.left:
        lines += ["", "# Left out:"]
        lines += [printable("#   " + " ".join(f"{name}: {why}".split())) for name, why in study.left.items()]
    return "\n".join(lines) + "\n"


def _flow(entry: Entry) -> str:
    return yaml.safe_dump(entry, default_flow_style=True, sort_keys=False, width=10_000, allow_unicode=True).strip()
