"""DuckDB looks at the store: views, macros and read-only queries. The Parquet files stay the record.

Every connection is its own, in memory. Views work on an empty store: each begins with an empty table of the right
columns. Once the views stand, the connection is locked: it can read below the store's folder and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from fute.errors import StoreError
from storage import schemas
from storage.responses import ResponseStore


@dataclass(frozen=True)
class View:
    """A view: its files below the store, its columns, and what is said of it in `fute ls`."""

    name: str
    glob: str
    schema: pa.Schema
    comment: str
    keep: str = ""  # a QUALIFY clause, where only the newest of several rows counts


POOL_ROWS = pa.schema(
    [
        pa.field("pool", pa.string()),
        pa.field("row", pa.int32()),
        pa.field("text", pa.string()),
        pa.field("text_pair", pa.string()),
        pa.field("source_id", pa.string()),
    ]
)

VIEWS = [
    View("datasets", "datasets/*/card.parquet", schemas.DATASETS, "labelled datasets as sampled"),
    View("pools", "pools/cards/*.parquet", schemas.POOLS, "unlabelled inputs given to every model"),
    View("pool_rows", "pools/*.parquet", POOL_ROWS, "the pools' inputs, row by row"),
    View("models", "models/*/card.parquet", schemas.MODELS, "models of the zoo, with held-out score where known"),
    View("prompts", "prompts/*.parquet", schemas.PROMPTS, "prompt templates and verbalizers"),
    View("outputs", "outputs/*/*.parquet", schemas.OUTPUTS, "what each model answered on each pool row"),
    View("spaces", "spaces/*.parquet", schemas.SPACES, "surrogate + method + settings + pool"),
    View("embeddings", "embeddings/*/*/*.parquet", schemas.EMBEDDINGS, "the vectors, with everything they came from"),
    View("reference_means", "references/*/*.parquet", schemas.REFERENCES, "population means, by version"),
    View("neighbor_history", "neighbors/*/*.parquet", schemas.NEIGHBORS, "ranked neighbours of every unification"),
    View("evaluations", "evaluations/*.parquet", schemas.EVALUATIONS, "measures of retrieval and ranking"),
    View("drift", "drift/checks/*/*.parquet", schemas.DRIFT, "checks whether a prompted model still answers as it did"),
    View("drift_baselines", "drift/baselines/*/*.parquet", schemas.DRIFT_BASELINES, "what it answered at first"),
    View("runs", "runs/*.parquet", schemas.RUNS, "flow runs, their state and what failed"),
]

# The rest is made of the views above.
DERIVED = {
    "neighbors": """
        SELECT * FROM neighbor_history
        QUALIFY created_at = max(created_at) OVER (PARTITION BY space)
    """,
}

MACROS = [
    # The k nearest of each kind, in every space that the subject is in.
    """
    CREATE MACRO nearest(subject_id, k := 5) AS TABLE
        SELECT s.method, n.candidate_kind, n.rank, n.candidate, n.score, n.ci_low, n.ci_high, n.reference, n.space
        FROM neighbors n LEFT JOIN spaces s USING (space)
        WHERE n.query = subject_id AND n.rank <= k
        ORDER BY n.space, n.candidate_kind, n.rank
    """,
    # A cosine of two vectors, refused across spaces: their axes mean different things.
    """
    CREATE MACRO task_similarity(space_a, vector_a, space_b, vector_b) AS
        CASE WHEN space_a = space_b THEN list_cosine_similarity(vector_a, vector_b)
             ELSE error('vectors of spaces ' || space_a || ' and ' || space_b || ' cannot be compared: '
                        || 'another surrogate, method or pool gives the axes another meaning') END
    """,
    # Two subjects by name: raw cosine (no reference mean removed) in each space that holds both.
    """
    CREATE MACRO compare(subject_a, subject_b) AS TABLE
        SELECT a.space, a.method, a.subject AS subject_a, b.subject AS subject_b,
               list_cosine_similarity(a.vector, b.vector) AS raw_cosine
        FROM embeddings a JOIN embeddings b ON a.space = b.space
        WHERE a.subject = subject_a AND b.subject = subject_b
        QUALIFY row_number() OVER (PARTITION BY a.space ORDER BY a.created_at DESC, b.created_at DESC) = 1
    """,
]

MACRO_NAMES = {
    "nearest('id', k := 5)": "the nearest datasets and models of a subject",
    "compare('a', 'b')": "raw cosine of two subjects in every space that holds both",
    "task_similarity(space_a, vector_a, space_b, vector_b)": "cosine of two vectors; an error across spaces",
}

READING = {duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN}


def connect(root: Path) -> duckdb.DuckDBPyConnection:
    """An in-memory connection with all views and macros over the store at `root`, locked to that folder."""
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'")
    for view in VIEWS:
        con.register(f"empty_{view.name}", view.schema.empty_table())
        con.execute(f'CREATE TABLE none_{view.name} AS SELECT * FROM "empty_{view.name}"')
        con.unregister(f"empty_{view.name}")
        query = f"SELECT * FROM none_{view.name}"
        if next(root.glob(view.glob), None) is not None:
            columns = ", ".join(f'"{name}"' for name in view.schema.names)
            if view.name == "pool_rows":  # whose pool is its file's name
                columns = columns.replace('"pool"', "parse_filename(filename, true) AS pool")
            # Quotes doubled: the path is ours, but may hold an apostrophe, and a view takes no bound values.
            files = str(root / view.glob).replace("'", "''")
            query += (
                f" UNION ALL BY NAME SELECT {columns} FROM "
                f"read_parquet('{files}', union_by_name = true, hive_partitioning = false, filename = true)"
            )
        con.execute(f"CREATE VIEW {view.name} AS {query}")
    _view_responses(con, root)
    for name, query in DERIVED.items():
        con.execute(f"CREATE VIEW {name} AS {query}")
    for macro in MACROS:
        con.execute(macro)
    con.execute("SET allowed_directories = [$folder]", {"folder": str(root)})
    con.execute("SET enable_external_access = false")
    con.execute("SET lock_configuration = true")
    return con


def _view_responses(con: duckdb.DuckDBPyConnection, root: Path) -> None:
    """The view `responses`: what is folded is looked at, and only what is not folded yet is loaded.

    Answers of running processes live in SQLite. They are read first: a file that is folded meanwhile is then seen
    twice, and not missed. So is an answer that two processes paid for. Of two the first counts, and only keys are
    compared for that.
    """
    con.register("arrow_responses", ResponseStore(root / "responses").live_table())
    con.execute("CREATE TABLE live_responses AS SELECT * FROM arrow_responses")
    con.unregister("arrow_responses")
    every = "SELECT * FROM live_responses"
    if next((root / "responses").glob("*.parquet"), None) is not None:
        files = str(root / "responses" / "*.parquet").replace("'", "''")
        every += (
            " UNION ALL BY NAME SELECT * FROM "
            f"read_parquet('{files}', union_by_name = true, hive_partitioning = false, filename = 'origin')"
        )
    con.execute(f"CREATE VIEW every_response AS {every}")
    con.execute("""
        CREATE VIEW repeated_responses AS
            SELECT key, arg_min(origin, (created_at, origin)) AS first_origin
            FROM every_response GROUP BY key HAVING count(*) > 1
    """)
    con.execute("""
        CREATE VIEW responses AS
            SELECT every_response.* EXCLUDE (origin)
            FROM every_response LEFT JOIN repeated_responses USING (key)
            WHERE first_origin IS NULL OR origin = first_origin
    """)


@dataclass(frozen=True)
class Answer:
    columns: list[str]
    rows: list[tuple[Any, ...]]

    def records(self) -> list[dict[str, Any]]:
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


def query(root: Path, sql: str, parameters: Sequence[Any] | dict[str, Any] | None = None) -> Answer:
    """Run one query over the store and fetch all of its rows. For several, `Catalog` spares making the views again.

    Raises:
        StoreError: the query is wrong; the message is DuckDB's, with the names of the views.
    """
    with Catalog(root) as catalog:
        return catalog.query(sql, parameters)


class Catalog:
    """One connection for several queries: the store as it is when it is opened. For one thread, in a `with`."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def __enter__(self) -> Catalog:
        with _told_as_ours():
            self._con = connect(self._root)
        return self

    def __exit__(self, *_: object) -> None:
        self._con.close()

    def query(self, sql: str, parameters: Sequence[Any] | dict[str, Any] | None = None) -> Answer:
        """Run one query and fetch all of its rows. Raises StoreError: the query is wrong."""
        with _told_as_ours():
            statements = self._con.extract_statements(sql)
            if len(statements) != 1 or statements[0].type not in READING:
                raise StoreError(
                    "a query is one SELECT (or EXPLAIN); the Parquet files are the record, and SQL only looks at them"
                )
            result = self._con.execute(statements[0], parameters)
            return Answer([column[0] for column in result.description or []], result.fetchall())


@contextmanager
def _told_as_ours() -> Iterator[None]:
    try:
        yield
    except duckdb.Error as exc:
        names = ", ".join(sorted([*(view.name for view in VIEWS), *DERIVED, "responses"]))
        raise StoreError(f"{exc}\nThe store has these views: {names}.") from exc
