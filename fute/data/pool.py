"""The pool: a few rows of many unlabelled sources, none of them rows that something is evaluated on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fute.config import PoolConfig
from fute.data.duplicates import keys_of, normalised, repeated
from fute.data.pool_sources import PoolSource, pool_sources
from fute.data.read import read_tables
from fute.data.sampling import generator, water_fill
from fute.errors import ConfigError, DataError, EmptyPoolError, ModelError
from fute.rows import row_texts
from fute.types import Dataset, Pool, TextTable

MIN_SHARED_CHARACTERS = 20
"""Normalised characters from which one text of a pair is enough to recognise an evaluated row. Shorter ones ("yes",
a name, a topic) stand in unrelated rows as well."""


@dataclass
class EvaluatedTexts:
    """Inputs of evaluated datasets, to look pool rows up in.

    A pool row counts as evaluated if its whole input (the text; or text and second text together) is the whole input
    of an evaluated row, or if one of its texts of MIN_SHARED_CHARACTERS or more is a text or second text of one.
    """

    exact_inputs: set[Hashable] = field(default_factory=set)
    exact_texts: set[str] = field(default_factory=set)
    normalised_inputs: set[Hashable] = field(default_factory=set)
    normalised_texts: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, datasets: Iterable[Dataset]) -> EvaluatedTexts:
        known = cls()
        for dataset in datasets:
            for split in dataset.splits.values():
                known._add(split.inputs)
        return known

    def _add(self, inputs: TextTable) -> None:
        forms = normalised(inputs)
        self.exact_inputs.update(keys_of(inputs))
        self.normalised_inputs.update(keys_of(forms))
        for texts, loose in ((inputs.texts, forms.texts), (inputs.pairs or (), forms.pairs or ())):
            for text, form in zip(texts, loose, strict=True):
                if text is not None and form is not None and len(form) >= MIN_SHARED_CHARACTERS:
                    self.exact_texts.add(text)
                    self.normalised_texts.add(form)

    def matches(self, inputs: TextTable, forms: TextTable) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Rows that match exactly, and rows that match once normalised (the exact ones among them); (n,) each."""
        exact = _among(inputs, self.exact_inputs, self.exact_texts)
        return exact, exact | _among(forms, self.normalised_inputs, self.normalised_texts)


def _among(table: TextTable, known_inputs: set[Hashable], known_texts: set[str]) -> NDArray[np.bool_]:
    found = np.array([key in known_inputs for key in keys_of(table)], dtype=bool)
    for texts in (table.texts, table.pairs):
        if texts is not None:
            found |= np.array([text in known_texts for text in texts], dtype=bool)
    return found


def build_pool(config: PoolConfig, base_dir: Path, seed: int, evaluated: Iterable[Dataset]) -> Pool:
    """Draw the pool.

    Rows are left out that have no text, that match a row of an evaluated dataset (any split; `EvaluatedTexts` says
    what matches), or that stand in the pool already (normalised). Each source is drawn from in an order of its own,
    decided by the seed and its id, so adding a source reshuffles no other one. `max_rows` is shared evenly between
    sources. Rows come in the order of source ids, and within a source in that of the source.

    Args:
        evaluated: left out where `exclude_evaluated` is set; ignored otherwise.

    Raises:
        ConfigError: sources that are not there (see `pool_sources`).
        DataError: sources that cannot be read, all in one message.
        EmptyPoolError: no row is left.
    """
    sources = pool_sources(config, base_dir)
    known = EvaluatedTexts.of(evaluated if config.exclude_evaluated else ())
    drawn: list[_Drawn] = []
    problems = []
    for source in sources:
        try:
            drawn.append(_candidates(source, base_dir, known))
        except (ConfigError, DataError, ModelError) as exc:
            problems.append(f"  - {source.id}: {exc}")
    if problems:
        raise DataError("the pool cannot be built; these sources cannot be read:\n" + "\n".join(problems))

    taken: set[Hashable] = set()
    texts: list[str] = []
    pairs: list[str | None] = []
    source_ids: list[str] = []
    for part, quota in zip(drawn, _quotas(config, drawn, seed), strict=True):
        rows = _pick(part, quota, taken, generator(seed, "pool", part.id))
        texts += [part.inputs.texts[row] for row in rows]
        pairs += [part.inputs.pairs[row] for row in rows] if part.inputs.pairs else [None] * len(rows)
        source_ids += [part.id] * len(rows)
        part.kept = len(rows)
    totals = sum((part.left_out for part in drawn), Counter[str]())
    left_out = {kind: totals[kind] for kind in ("evaluated_exact", "evaluated_normalised", "duplicate", "empty")}
    if not texts:
        raise EmptyPoolError(
            f"the pool is empty: of {sum(part.seen for part in drawn)} rows in {len(drawn)} sources none is left "
            f"({', '.join(f'{kind}: {count}' for kind, count in left_out.items())}); add sources that no dataset of "
            "the study is made from"
        )
    report = {
        "sources": {part.id: {"seen": part.seen, "kept": part.kept} for part in drawn},
        "left_out": left_out,
    }
    inputs = TextTable(texts, pairs if any(p is not None for p in pairs) else None, columns=sources[0].of_row)
    return Pool(inputs, source_ids, report)


@dataclass
class _Drawn:
    """Usable rows of one source, and what was left out."""

    id: str
    inputs: TextTable
    keys: list[Hashable]
    seen: int
    left_out: Counter[str]
    kept: int = 0


def _candidates(source: PoolSource, base_dir: Path, known: EvaluatedTexts) -> _Drawn:
    texts: list[str | None] = []
    pairs: list[str | None] = []
    columns = source.columns
    if source.of_row is not None:
        for table in read_tables(source.data, [], columns, base_dir).values():
            texts += row_texts(table, columns, source.id)
        pairs += [None] * len(texts)
    for table in () if source.of_row else read_tables(source.data, columns, [], base_dir).values():
        texts += table.column(source.text).to_pylist()
        pairs += table.column(source.text_pair).to_pylist() if source.text_pair else [None] * len(table)
    # A blank second text is no second text.
    rows = [
        (t, p if p and not p.isspace() else None) for t, p in zip(texts, pairs, strict=True) if t and not t.isspace()
    ]
    left_out = Counter(empty=len(texts) - len(rows))
    inputs = replace(_inputs(rows), columns=source.of_row)
    forms = normalised(inputs)
    exact, either = known.matches(inputs, forms)
    left_out["evaluated_exact"] = int(exact.sum())
    left_out["evaluated_normalised"] = int((either & ~exact).sum())
    keys = keys_of(forms)
    fresh = np.flatnonzero(~either)
    again = repeated([keys[i] for i in fresh])
    left_out["duplicate"] = int(again.sum())
    kept = fresh[~again]
    return _Drawn(source.id, inputs.take(kept), [keys[i] for i in kept], len(texts), left_out)


def _inputs(rows: list[tuple[str, str | None]]) -> TextTable:
    pairs = [p for _, p in rows]
    return TextTable([t for t, _ in rows], pairs if any(p is not None for p in pairs) else None)


def _quotas(config: PoolConfig, drawn: list[_Drawn], seed: int) -> list[int]:
    """Rows of each source. What cannot be shared evenly goes to sources in a seeded order, not to the first names."""
    order = sorted(range(len(drawn)), key=lambda i: generator(seed, "pool order", drawn[i].id).random())
    shares = water_fill([min(config.rows_per_source, len(drawn[i].inputs)) for i in order], config.max_rows)
    quotas = [0] * len(drawn)
    for i, share in zip(order, shares, strict=True):
        quotas[i] = share
    return quotas


def _pick(source: _Drawn, quota: int, taken: set[Hashable], rng: np.random.Generator) -> list[int]:
    """Rows of a source in its own order: the first `quota` of a seeded permutation that no earlier source gave."""
    rows: list[int] = []
    for row in rng.permutation(len(source.inputs)).tolist():
        if len(rows) == quota:
            break
        if source.keys[row] in taken:
            source.left_out["duplicate"] += 1
            continue
        taken.add(source.keys[row])
        rows.append(row)
    return sorted(rows)
