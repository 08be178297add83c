"""The store from a notebook: `fute.open(folder)`. It reads, and writes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from fute.errors import NotInStoreError
from fute.types import Kind
from storage.catalog import Catalog, Parameters
from storage.nearest import NEAREST, near_duplicates, nearest
from storage.schema_version import is_store
from storage.store import Store
from storage.views import COMMENTS

if TYPE_CHECKING:
    import pandas as pd


class OpenStore:
    """A store that is looked at. Safe while runs write: each question sees the store as it is when it is asked.

    Safe between threads too, for each question has a connection of its own.
    """

    def __init__(self, address: str | Path) -> None:
        """Args:
            address: the store's folder, or its URL on object storage; then its mirror here is brought up to date.

        Raises:
            NotInStoreError: there is no such folder, or it holds something else.
            StoreError: the store was made by a later fute, or cannot be reached.
        """
        self._store = Store(address).pull()
        if not is_store(self._store.root):
            raise NotInStoreError(f"no store at {self._store.root}; give the folder that a study's `store` names")

    def __enter__(self) -> OpenStore:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is held open between two questions."""

    @property
    def root(self) -> Path:
        return self._store.root

    def sql(self, query: str, parameters: Parameters = None) -> pa.Table:
        """One SELECT over the store's views, as an Arrow table.

        Args:
            query: `?` or `$name` stand for values.
            parameters: the values, a sequence or a mapping.

        Raises:
            StoreError: the query is wrong, or reads anything but the store.
        """
        with Catalog(self.root) as catalog:
            return catalog.arrow(query, parameters)

    def df(self, query: str, parameters: Parameters = None) -> pd.DataFrame:
        """The same as a pandas DataFrame."""
        return self.sql(query, parameters).to_pandas()

    def views(self) -> pa.Table:
        """Every view and its columns: view, column, type, comment (the view's)."""
        names = ", ".join(f"'{name}'" for name in COMMENTS)
        table = self.sql(
            'SELECT table_name AS view, column_name AS "column", data_type AS type FROM duckdb_columns() '
            f"WHERE table_name IN ({names}) ORDER BY table_name, column_index"
        )
        return table.append_column("comment", pa.array([COMMENTS[name] for name in table["view"].to_pylist()]))

    def nearest(self, subject: str, k: int = 10, space: str | None = None, kind: Kind | None = None) -> pa.Table:
        """The k nearest datasets and models of a subject in each space, looked for now among all that is stored.

        Args:
            kind: what the subject is, where a dataset and a model share the name; candidates are of both kinds.

        Raises:
            NotInStoreError: nothing of this name is embedded.
            StoreError: a dataset and a model are called so, and no kind is given.
        """
        return pa.Table.from_pylist(nearest(self._store, subject, k, space, kind), NEAREST)

    def near_duplicates(self, space: str, threshold: float, kind: Kind = "model") -> pa.Table:
        """Pairs of one kind in a space whose cosine is at least the threshold, in the space's frame."""
        rows: list[dict[str, Any]] = [
            {"subject_a": a, "subject_b": b, "score": score}
            for a, b, score in near_duplicates(self._store, space, threshold, kind)
        ]
        return pa.Table.from_pylist(rows, PAIRS)


PAIRS = pa.schema(
    [pa.field("subject_a", pa.string()), pa.field("subject_b", pa.string()), pa.field("score", pa.float32())]
)
