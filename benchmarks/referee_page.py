"""The tables of docs/referee.md, from rows of results/referee."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

START, END = "<!-- tables: python benchmarks/referee.py --page -->", "<!-- end of tables -->"
RETRIEVAL = (
    ("dataset to model", "dataset→model"),
    ("model to dataset", "model→dataset"),
    ("model to model", "model→model"),
    ("model to other architecture", "to another architecture"),
    ("model to model, no common row", "model→model, no common row"),
    ("model to other architecture, no common row", "both"),
)
ACCURACY = ("accuracy", "accuracy, without the task's own models")
TRANSFER = "transfer"
Row = dict[str, Any]


def with_tables(page: str, rows: Sequence[Row]) -> str:
    """The page with the tables between its two marks made anew."""
    before, rest = page.split(START)
    _, after = rest.split(END)
    return f"{before}{START}\n\n{tables(rows)}\n{END}{after}"


def tables(rows: Sequence[Row]) -> str:
    """Tables of each zoo, the best of each column in bold."""
    parts = []
    for zoo in dict.fromkeys(row["zoo"] for row in rows):
        of_zoo = [row for row in rows if row["zoo"] == zoo]
        columns = [(q, "P@1", title) for q, title in RETRIEVAL]
        parts.append(_table(f"{zoo}: P@1 (95 %)", of_zoo, columns, seconds=True))
        columns = [
            (q, m, f"{m}{', without the own' if q != ACCURACY[0] else ''}")
            for q in ACCURACY
            for m in ("rank correlation", "regret")
        ]
        parts.append(_table(f"{zoo}: which model will be right most often", of_zoo, columns))
        columns = [(TRANSFER, m, m) for m in ("rank of the best", "NDCG", "regret", "NDCG within the family")]
        parts.append(_table(f"{zoo}: from which source to fine-tune", of_zoo, columns))
    return "\n".join(part for part in parts if part)


def _table(title: str, rows: Sequence[Row], columns: Sequence[tuple[str, str, str]], *, seconds: bool = False) -> str:
    """Methods in order of the first column; empty where none of them answers."""
    cells = {(r["method"], r["question"], r["measure"]): r for r in rows}
    reads = {r["method"]: r["reads"] for r in rows}
    asked = [(q, m) for q, m, _ in columns]
    methods = [name for name in reads if any((name, *which) in cells for which in asked)]
    if not methods:
        return ""
    down = [m in ("regret", "rank of the best") for _, m in asked]

    def value(name: str, which: tuple[str, str]) -> float:
        row = cells.get((name, *which))
        return float("nan") if row is None else row["value"]

    def order(name: str) -> tuple[float, ...]:
        found = [value(name, which) * (1 if lower else -1) for which, lower in zip(asked, down, strict=True)]
        return tuple(9.0 if v != v else v for v in found)

    best = []
    for which, lower in zip(asked, down, strict=True):
        known = [v for name in methods if (v := value(name, which)) == v]
        best.append((min(known) if lower else max(known)) if known else float("nan"))
    heads = [title for _, _, title in columns] + (["seconds a subject"] if seconds else [])
    lines = [f"### {title}", "", "| method | reads | " + " | ".join(heads) + " |", "| --- " * (len(heads) + 2) + "|"]
    for name in sorted(methods, key=order):
        told = [_cell(cells.get((name, *which)), top) for which, top in zip(asked, best, strict=True)]
        if seconds:
            spent = next(r["seconds"] for r in rows if r["method"] == name)
            told.append("" if spent is None else f"{spent:.2g}")
        lines.append(f"| {name} | {reads[name]} | " + " | ".join(told) + " |")
    return "\n".join([*lines, ""])


def _cell(row: Row | None, best: float) -> str:
    if row is None:
        return ""
    value = f"{row['value']:.2f}" if row["measure"] == "rank of the best" else f"{row['value']:.3f}"
    value = f"**{value}**" if row["value"] == best else value
    return value if row["low"] is None else f"{value} ({row['low']:.2f} to {row['high']:.2f})"
