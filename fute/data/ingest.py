"""Labelled datasets: read, checked, sampled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fute.config import DatasetConfig
from fute.data.duplicates import conflicting, keys_of, normalised, repeated, shared
from fute.data.faults import Fault, Targets, concerned, counts, mask, text_faults
from fute.data.faults import found as faults_found
from fute.data.labels import class_counts, class_targets
from fute.data.read import check_split_names, read_tables_as, source_identity
from fute.data.reading import ingest_version
from fute.data.sampling import generator, stratified_sample
from fute.data.targets import number_targets, span_targets
from fute.errors import DataError
from fute.fingerprint import fingerprint
from fute.rows import row_texts
from fute.types import Dataset, Split, TaskType, TextTable

_CANNOT_CHANGE_ROWS = {"data", "family", "min_rows"}
ROW = "row\0"
"""Where the rows of a table stand while they are read: no column is called so."""


def dataset_fingerprint(config: DatasetConfig, base_dir: Path, seed: int) -> str:
    """Identity of the dataset that `ingest` would make, without reading its rows.

    Raises:
        ConfigError, DataError: a file, function or hub dataset that cannot be found.
    """
    return _fingerprint(config, source_identity(config.data, base_dir), seed, ingest_version(config, base_dir))


def ingest(config: DatasetConfig, base_dir: Path, seed: int) -> Dataset:
    """Read a labelled dataset, check every row, and take a seeded, capped, stratified sample.

    Each split keeps the source's order. A sample depends on the seed, the dataset's id and the split, on no other
    dataset. The report counts rows seen, left out and kept, duplicates, and texts shared with the training split.

    Raises:
        ConfigError: a file or function that is not there.
        DataError: everything that is wrong with the rows, in one message.
    """
    identity, version = source_identity(config.data, base_dir), ingest_version(config, base_dir)
    columns = config.columns or []
    texts = [] if columns else _text_columns(config)
    tables, read_as = read_tables_as(config.data, texts, [*columns, config.label], base_dir)
    problems = check_split_names(list(tables))
    if problems:
        raise _refused(config, problems)
    # The order of the splits in a study file or a dictionary changes nothing.
    tables = {split: tables[split] for split in ("train", "validation", "test") if split in tables}
    dropped = {split: "it has no rows" for split, table in tables.items() if split != "train" and not len(table)}
    tables = {split: table for split, table in tables.items() if split not in dropped}
    try:
        targets, label_names, unlabelled = _targets(config, tables)
    except (DataError, pa.ArrowException) as exc:  # Arrow: numbers too large for a class or a target
        raise _refused(config, [str(exc)]) from exc
    dropped |= unlabelled

    splits: dict[str, Split] = {}
    report: dict[str, Any] = {"splits": {}, "overlap": {}, "dropped_splits": dropped, "read_as": read_as}
    keys: dict[str, tuple[list[Any], list[Any]]] = {}
    for split, found in targets.items():
        table = tables[split]
        if columns:
            table = table.append_column(ROW, pa.array(row_texts(table, columns, split), pa.large_string()))
            blank = Fault("null", "without a value in any of `columns`", mask(pc.is_null(table.column(ROW))))
            faults = [*faults_found(blank), *found.faults]
        else:
            faults = [f for name in texts for f in text_faults(table.column(name), name)] + found.faults
        if faults and not config.skip_bad_rows:
            problems += [fault.describe(split) for fault in faults]
        usable = np.flatnonzero(~concerned(faults, len(table)))
        inputs = _inputs(config, table, usable)
        values = found.values[usable]
        exact, loose = keys_of(inputs), keys_of(normalised(inputs))
        again = repeated(exact)
        entry: dict[str, Any] = {
            "seen": len(table),
            "duplicates": int(again.sum()),
            "duplicates_normalised": int(repeated(loose).sum()),
            "conflicting_labels": conflicting(exact, values),
        }
        if config.skip_bad_rows and again.any():
            rows = np.zeros(len(table), dtype=bool)
            rows[usable[again]] = True
            faults.append(Fault("duplicate", "that stand twice", rows))
            once = np.flatnonzero(~again)
            inputs, values = inputs.take(once), values[once]
            exact, loose = [exact[i] for i in once], [loose[i] for i in once]
        entry["left_out"] = counts(faults, len(table))
        if split == "train":
            problems += _population_problems(config, values, label_names, len(table))
        elif not len(inputs) and not problems:
            dropped[split] = "none of its rows is usable"
            continue
        keys[split] = exact, loose
        cap = config.max_rows if split == "train" else config.max_eval_rows
        sample = stratified_sample(_strata(config.task, values), cap, generator(seed, "dataset", config.id, split))
        splits[split] = Split(inputs.take(sample), values[sample])
        entry["kept"] = len(sample)
        if label_names is not None:
            entry["classes"] = class_counts(values[sample], label_names)
        report["splits"][split] = entry
    if problems:
        raise _refused(config, problems)
    for split in [s for s in keys if s != "train"]:
        report["overlap"][split] = {
            "exact": shared(keys[split][0], keys["train"][0]),
            "normalised": shared(keys[split][1], keys["train"][1]),
        }
    return Dataset(
        id=config.id,
        task=config.task,
        splits=splits,
        fingerprint=_fingerprint(config, identity, seed, version),
        label_names=label_names,
        provenance={
            "source": dict(identity),
            "data": config.data.identity(),
            "settings": config.identity(exclude={"data"}),
            "seed": seed,
            "ingest_version": version,
        },
        report=report,
    )


def _fingerprint(config: DatasetConfig, identity: Mapping[str, Any], seed: int, version: int) -> str:
    return fingerprint(
        ingest_version=version,
        source=dict(identity),
        settings=config.identity(exclude=_CANNOT_CHANGE_ROWS),
        seed=seed,
    )


def _text_columns(config: DatasetConfig) -> list[str]:
    if config.task == "span_qa" and config.text_pair is None:
        raise DataError(f"dataset {config.id}: span_qa needs text_pair, the column of the context")
    if config.columns is not None:
        return [ROW]
    return [config.text] if config.text_pair is None else [config.text, config.text_pair]


def _targets(
    config: DatasetConfig, tables: Mapping[str, pa.Table]
) -> tuple[dict[str, Targets], tuple[str, ...] | None, dict[str, str]]:
    if config.task == "classification":
        classes = class_targets(tables, config.label, config.label_names)
        return classes.splits, classes.label_names, classes.unlabelled
    labels = {split: table.column(config.label) for split, table in tables.items()}
    # A held-back test split is not a fault of the rows; no training label at all is.
    unlabelled = {
        split: f"none of its {len(column)} rows has a label"
        for split, column in labels.items()
        if split != "train" and column.null_count == len(column)
    }
    kept = {split: column for split, column in labels.items() if split not in unlabelled}
    if config.task == "regression":
        return {s: number_targets(c, config.label, s) for s, c in kept.items()}, None, unlabelled
    context = config.text_pair or ""
    spans = {s: span_targets(c, tables[s].column(context), config.label, s) for s, c in kept.items()}
    return spans, None, unlabelled


def _inputs(config: DatasetConfig, table: pa.Table, rows: NDArray[np.intp]) -> TextTable:
    texts, *pairs = (table.column(name).take(pa.array(rows)).to_pylist() for name in _text_columns(config))
    columns = None if config.columns is None else tuple(config.columns)
    return TextTable(texts, pairs[0] if pairs else None, columns=columns)


def _strata(task: TaskType, values: NDArray[Any]) -> NDArray[np.int64]:
    if task == "classification":
        return values
    # Questions with and without an answer keep their shares; numbers are drawn from one urn.
    return (values[:, 0] >= 0).astype(np.int64) if task == "span_qa" else np.zeros(len(values), dtype=np.int64)


def _population_problems(
    config: DatasetConfig, values: NDArray[Any], names: Sequence[str] | None, seen: int
) -> list[str]:
    """What is wrong with the usable training rows, of so many seen, taken together."""
    problems = []
    if not seen:
        problems.append("train: it has no rows")
    elif not len(values):
        what = "values" if config.columns else "a text"
        problems.append(f"train: none of its {seen} rows has {what} and a label that can be used")
    elif len(values) < config.min_rows:
        problems.append(f"train: {len(values)} usable rows, but min_rows is {config.min_rows}; find more, or lower it")
    if len(values) and config.task == "classification" and values.min() == values.max():
        only = repr(names[int(values[0])]) if names and 0 <= values[0] < len(names) else str(values[0])
        problems.append(f"train: one class only, {only}; a classification needs two or more")
    if len(values) and config.task == "regression" and values.min() == values.max():
        problems.append(f"train: every label is {values[0]:g}; a regression needs labels that differ")
    if len(values) and config.task == "span_qa" and (values < 0).all():
        problems.append("train: no question has an answer; span QA needs some that have")
    return problems


def _refused(config: DatasetConfig, problems: Sequence[str]) -> DataError:
    lines = "\n".join(f"  - {problem}" for problem in problems)
    hint = "" if config.skip_bad_rows else " Fix the source, or leave bad rows out with skip_bad_rows: true."
    return DataError(
        f"dataset {config.id} cannot be used as it is:\n{lines}\nRows are counted from 0 within a split's source.{hint}"
    )
