"""DuckDB looks at the store: views, macros and read-only queries. The Parquet files stay the record.

Every connection is its own, in memory. Views work on an empty store: each begins with an empty table of the right
columns, so a column that older files lack is null. Once the views stand, the connection is locked: it can read below
the store's folder and nothing else.

The store is seen as it was when the connection was opened: the files of each view are listed then. A record that lies
in several files, since it is being folded, counts once (storage/parts.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import pyarrow as pa

from fute.errors import StoreError
from storage import schemas
from storage.files import advice
from storage.parts import FOLDED, files_of
from storage.responses import ORIGIN, RESPONSES, ResponseStore
from storage.schema_version import require_readable


@dataclass(frozen=True)
class View:
    """A view: its files below the store, its columns, and what is said of it in `fute ls`.

    Attributes:
        glob: of its files; of its folders' files where they may be folded.
        made: columns that are not read but made of the file's name: SQL over `origin`, the file's path.
        key: of a view whose files may be folded: SQL for what a record counts once by, the latest of several.
    """

    name: str
    glob: str
    schema: pa.Schema
    comment: str
    made: Mapping[str, str] = field(default_factory=dict)
    key: str = ""

    @property
    def folds(self) -> bool:
        """Whether its files may be folded into larger ones."""
        return self.key != ""


VIEWS = [
    View("datasets", "datasets/*/card.parquet", schemas.DATASETS, "labelled datasets as sampled"),
    View("pools", "pools/cards/*.parquet", schemas.POOLS, "unlabelled inputs given to every model"),
    View("pool_rows", "pools/*.parquet", schemas.POOL_ROWS, "the pools' inputs, row by row",
         made={"pool": "parse_filename(origin, true)"}),
    View("models", "models/*/card.parquet", schemas.MODELS, "models of the zoo, with held-out score where known"),
    View("prompts", "prompts/*.parquet", schemas.PROMPTS, "prompt templates and verbalizers"),
    View("outputs", "outputs/*/*.parquet", schemas.OUTPUTS, "what each model answered on each pool row"),
    View("spaces", "spaces/*.parquet", schemas.SPACES, "surrogate + method + settings + pool"),
    View("embeddings", "embeddings/*/*/*.parquet", schemas.EMBEDDINGS, "the vectors, with everything they came from",
         key="space, kind, fingerprint"),
    View("reference_means", "references/*/*.parquet", schemas.REFERENCES, "population means, by version"),
    View("neighbor_history", "neighbors/*/*.parquet", schemas.NEIGHBORS, "ranked neighbours of every unification"),
    View("member_history", "members/*/*.parquet", schemas.MEMBERS, "which embeddings every unification saw"),
    View("evaluations", "evaluations/*.parquet", schemas.EVALUATIONS, "measures of retrieval and ranking"),
    View("drift", "drift/checks/*/*.parquet", schemas.DRIFT,
         "checks whether a prompted model still answers as it did", key="model_ref, created_at"),
    View("drift_baselines", "drift/baselines/*/*.parquet", schemas.DRIFT_BASELINES, "what it answered at first"),
    # A run that is tried again once its record is folded has two.
    View("runs", "runs/*.parquet", schemas.RUNS, "flow runs, their state and what failed",
         key="coalesce(flow_run_id, CAST(created_at AS VARCHAR))"),
]  # fmt: skip

# Rows of the datasets, whose label becomes a name in the view dataset_rows.
DATASET_FILES = View(
    "dataset_files", "datasets/*/[tv]*.parquet", schemas.DATASET_FILES, "",
    made={"dataset": "replace(parse_path(origin)[-2], '~', '/')", "split": "parse_filename(origin, true)"},
)  # fmt: skip

# The rest is made of the views above: what is said of it, and its query.
DERIVED = {
    "neighbors": (
        "ranked neighbours of the last unification of each space",
        # Not by a window over the whole history, which reads all columns of all unifications.
        """
        SELECT * FROM neighbor_history
        WHERE (space, created_at) IN (SELECT (space, max(created_at)) FROM neighbor_history GROUP BY space)
        """,
    ),
    "members": (
        "which embedding of each subject the last unification of each space saw",
        """
        SELECT * FROM member_history
        WHERE (space, created_at) IN (SELECT (space, max(created_at)) FROM member_history GROUP BY space)
        """,
    ),
    "dataset_rows": (
        "the datasets' labelled rows",
        """
        SELECT f.dataset, f.split, f.row, f.text, f.text_pair, f.label,
               d.label_names[CAST(f.label AS BIGINT) + 1] AS label_name,
               f."start" AS answer_start, f."end" AS answer_end
        FROM dataset_files f LEFT JOIN (SELECT DISTINCT ref, label_names FROM datasets) d ON d.ref = f.dataset
        """,
    ),
    # A prompt with a pool's row in it is the question that was asked, word for word.
    "prompt_answers": (
        "what was asked of an LLM with which prompt about which pool row, and what it cost",
        r"""
        WITH asked AS (
            SELECT * EXCLUDE (messages),
                   list_filter(messages, lambda m: m.role = 'user')[1].content AS question,
                   list_filter(messages, lambda m: m.role = 'system')[1].content AS instruction
            FROM (SELECT * REPLACE (from_json(messages, '[{"role": "VARCHAR", "content": "VARCHAR"}]') AS messages)
                  FROM responses)
        ), questions AS (
            SELECT p.id AS prompt, p.fingerprint AS prompt_fingerprint, p.system AS instruction, i.pool, i.row,
                   fill_in(p.template, i.text, i.text_pair) AS question
            FROM (SELECT DISTINCT ON (fingerprint) * FROM prompts) p, pool_rows i
        )
        SELECT q.prompt, q.prompt_fingerprint, q.pool, q.row, a.key, a.service, a.model AS llm, a.answer,
               a.tokens_in, a.tokens_out, a.cost_usd, a.latency_ms, a.run_id, a.flow_run_id, a.created_at
        FROM asked a JOIN questions q
          ON a.question = q.question AND a.instruction IS NOT DISTINCT FROM q.instruction
        """,
    ),
}

RESPONSES_COMMENT = "every LLM request and answer, with tokens, cost, latency and run"

COMMENTS = {
    **{view.name: view.comment for view in VIEWS},
    **{name: comment for name, (comment, _) in DERIVED.items()},
    "responses": RESPONSES_COMMENT,
}
"""Every view that is documented and kept stable, with what it holds."""

# Which embedding of each subject counts, as VectorStore.population has it: that of the last unification or a later one.
COUNTED = """
    CREATE VIEW counted_embeddings AS
        SELECT space, kind, fingerprint
        FROM (SELECT space, kind, subject, fingerprint, created_at FROM embeddings) e
        LEFT JOIN (SELECT space, kind, fingerprint, created_at AS ranked_at FROM members) m
            USING (space, kind, fingerprint)
        QUALIFY row_number() OVER (
            PARTITION BY space, kind, subject
            ORDER BY coalesce(ranked_at, created_at) DESC, ranked_at IS NULL, fingerprint DESC) = 1
"""

MACROS = [
    # A prompt's template with an input in it, as fute.llm.prompts fills it in. A character without a meaning keeps the
    # pair's place until the first text is in, whose words may look like a place. Backslashes would be taken as groups.
    r"""
    CREATE MACRO fill_in(template, words, second) AS
        replace(
            regexp_replace(
                regexp_replace(template, '\{\{\s*(text_pair|hypothesis|context|sentence2)\s*\}\}', chr(57344), 'g'),
                '\{\{\s*(text|premise|question|sentence|sentence1)\s*\}\}', replace(words, '\', '\\'), 'g'),
            chr(57344), coalesce(second, ''))
    """,
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
        FROM (FROM embeddings SEMI JOIN counted_embeddings USING (space, kind, fingerprint)) a
        JOIN (FROM embeddings SEMI JOIN counted_embeddings USING (space, kind, fingerprint)) b ON a.space = b.space
        WHERE a.subject = subject_a AND b.subject = subject_b
        QUALIFY row_number() OVER (PARTITION BY a.space ORDER BY a.created_at DESC, b.created_at DESC) = 1
    """,
    # Vectors compared as they are, one with all: for subjects that no unification has ranked.
    """
    CREATE MACRO most_similar(subject_id, k := 10) AS TABLE
        WITH wanted AS (
            SELECT space, kind, vector FROM embeddings SEMI JOIN counted_embeddings USING (space, kind, fingerprint)
            WHERE subject = subject_id
        )
        SELECT e.space, e.method, e.kind, e.subject, e.fingerprint,
               list_cosine_similarity(e.vector, w.vector) AS raw_cosine
        FROM embeddings e JOIN wanted w ON e.space = w.space
        WHERE e.subject <> subject_id
        ORDER BY raw_cosine DESC, e.subject, e.fingerprint LIMIT k
    """,
    # Pairs of one kind in one space, each pair once, whose raw cosine is at least the threshold.
    """
    CREATE MACRO near_duplicates(space_id, threshold, of_kind := 'model') AS TABLE
        WITH newest AS (
            SELECT subject, vector FROM embeddings SEMI JOIN counted_embeddings USING (space, kind, fingerprint)
            WHERE space = space_id AND kind = of_kind
        )
        SELECT a.subject AS subject_a, b.subject AS subject_b, list_cosine_similarity(a.vector, b.vector) AS raw_cosine
        FROM newest a JOIN newest b ON a.subject < b.subject
        WHERE list_cosine_similarity(a.vector, b.vector) >= threshold
        ORDER BY raw_cosine DESC, subject_a, subject_b
    """,
]

MACRO_NAMES = {
    "nearest('id', k := 5)": "the nearest datasets and models of a subject, as the last unification ranked them",
    "most_similar('id', k := 10)": "the highest raw cosines of a subject with all others, looked for now",
    "near_duplicates('space', 0.99, of_kind := 'model')": "pairs in a space with a raw cosine from a threshold on",
    "compare('a', 'b')": "raw cosine of two subjects in every space that holds both",
    "task_similarity(space_a, vector_a, space_b, vector_b)": "cosine of two vectors; an error across spaces",
    "fill_in(template, text, text_pair)": "a prompt's template with an input in it",
}

T = TypeVar("T")

_DAMAGED = re.compile(r"Invalid Input Error: .*['\"](/[^'\"]+\.parquet)['\"]")
_EXPLAIN = re.compile(r"\s*EXPLAIN\s+(ANALYZE\s+)?(\([^)]*\)\s*)?", re.IGNORECASE)

TRIES = 10

_TYPES = {
    pa.string(): "VARCHAR",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.float32(): "FLOAT",
    pa.float64(): "DOUBLE",
    pa.bool_(): "BOOLEAN",
    schemas.UTC: "TIMESTAMP WITH TIME ZONE",
}


def sql_type(arrow: pa.DataType) -> str:
    """The DuckDB type of a column of the store."""
    return f"{sql_type(arrow.value_type)}[]" if pa.types.is_list(arrow) else _TYPES[arrow]


def view_query(
    schema: pa.Schema, files: str | None, *, made: Mapping[str, str] | None = None, options: str = ""
) -> str:
    """The columns of a schema from Parquet files; null where a file lacks one.

    Args:
        files: SQL for the path, glob or list of paths; None: there are no files, and the answer is empty.
        made: columns that are not read but made, as SQL over `origin`, the file's path.
        options: more options of read_parquet.
    """
    every = schema if ORIGIN.name in schema.names else schema.append(ORIGIN)
    rows = f"(SELECT {_nulls(every)} LIMIT 0)"
    if files is not None:
        read = f"read_parquet({files}, union_by_name = true, hive_partitioning = false, filename = 'origin'{options})"
        rows += f" UNION ALL BY NAME (SELECT * FROM {read})"
    columns = ", ".join(f'{(made or {}).get(name, quoted(name))} AS "{name}"' for name in schema.names)
    return f"SELECT {columns} FROM ({rows})"


def _nulls(schema: pa.Schema) -> str:
    return ", ".join(f'CAST(NULL AS {sql_type(f.type)}) AS "{f.name}"' for f in schema)


def quoted(name: str) -> str:
    return f'"{name}"'


def live_files(root: Path, view: View) -> list[str]:
    """The files of a view that count now."""
    if not view.folds:
        return [str(path) for path in sorted(root.glob(view.glob))]
    folders = sorted(path for path in root.glob(view.glob.rpartition("/")[0]) if path.is_dir())
    return [str(path) for folder in folders for path in files_of(folder)]


def connect(root: Path) -> duckdb.DuckDBPyConnection:
    """An in-memory connection with all views and macros over the store at `root`, locked to that folder.

    Raises:
        StoreError: the store was made by a later fute.
    """
    require_readable(root)
    for _ in range(TRIES):
        con = duckdb.connect()
        try:
            _create_all(con, root)
            return con
        except duckdb.IOException:
            lost = lost_files(con)
            con.close()
            if not lost:
                raise
        except BaseException:
            con.close()
            raise
    raise StoreError(f"the files of {root} go away faster than they can be listed; ask again")


def lost_files(con: duckdb.DuckDBPyConnection) -> bool:
    """Whether a file that was listed is gone: it was folded, and a maintenance has removed it meanwhile."""
    listed = " UNION ALL ".join(f"SELECT unnest(getvariable('files_{view.name}'))" for view in VIEWS if view.folds)
    return not all(Path(path).exists() for (path,) in con.execute(listed).fetchall())


def _create_all(con: duckdb.DuckDBPyConnection, root: Path) -> None:
    con.execute("SET TimeZone = 'UTC'")
    _load_live_responses(con, root)
    # As variables: a view takes no bound values, and a list of files may be long.
    lists = {view.name: live_files(root, view) for view in (*VIEWS, DATASET_FILES)}
    lists["responses"] = sorted(str(path) for path in (root / "responses").glob("*.parquet"))

    def made_of(name: str, files: list[str]) -> str | None:
        con.execute(f"SET VARIABLE files_{name} = $files", {"files": files})
        return f"getvariable('files_{name}')" if files else None

    # Making a view or macro opens all files that it reads, and each is made of others: so of one file at first.
    for view in (*VIEWS, DATASET_FILES):
        files = lists[view.name]
        # Without parts nothing lies there twice, and most stores have many files only where they have no parts.
        folded = view.folds and any(Path(path).parent.name == FOLDED for path in files)
        create_view(con, view, made_of(view.name, files[:1]), folded=folded)
    create_responses(con, made_of("responses", lists["responses"][:1]), "SELECT * FROM live_responses")
    create_derived(con)
    for name, files in lists.items():
        made_of(name, files)
    con.execute("SET allowed_directories = [$folder]", {"folder": str(root)})
    con.execute("SET enable_external_access = false")
    con.execute("SET lock_configuration = true")


def create_view(
    con: duckdb.DuckDBPyConnection, view: View, files: str | None, options: str = "", *, folded: bool
) -> None:
    """A view; where its files may be folded, each record once. Only keys are compared for that.

    Args:
        files: as for `view_query`.
    """
    if not folded:
        _create_view(con, view.name, view_query(view.schema, files, made=view.made, options=options), view.schema)
        return
    schema = view.schema.append(ORIGIN)
    _create_view(con, f"every_{view.name}", view_query(schema, files, options=options), schema)
    con.execute(f"""
        CREATE VIEW repeated_{view.name} AS
            SELECT ({view.key}) AS key, max((created_at, origin)) AS latest
            FROM every_{view.name} GROUP BY {view.key} HAVING count(*) > 1
    """)
    con.execute(f"""
        CREATE VIEW {view.name} AS
            SELECT e.* EXCLUDE (origin) FROM every_{view.name} e LEFT JOIN repeated_{view.name} r
            ON ({view.key}) IS NOT DISTINCT FROM r.key WHERE latest IS NULL OR (created_at, origin) = latest
    """)


def _create_view(con: duckdb.DuckDBPyConnection, name: str, query: str, schema: pa.Schema) -> None:
    """The view; where a file of it is damaged, one that says so when it is asked, for the others are whole."""
    try:
        con.execute(f"CREATE VIEW {name} AS {query}")
    except duckdb.Error as exc:
        if not _DAMAGED.search(str(exc)):
            raise
        says = str(exc).splitlines()[0].removeprefix("Invalid Input Error: ").replace("'", "''")
        con.execute(f"CREATE VIEW {name} AS SELECT {_nulls(schema)} WHERE error('{says}') IS NULL")


def create_derived(con: duckdb.DuckDBPyConnection) -> None:
    """The views that are made of others, and the macros."""
    con.execute(MACROS[0])  # the views need this one
    for name, (_, query) in DERIVED.items():
        con.execute(f"CREATE VIEW {name} AS {query}")
    for macro in (COUNTED, *MACROS[1:]):
        con.execute(macro)


def _load_live_responses(con: duckdb.DuckDBPyConnection, root: Path) -> None:
    """Answers of running processes live in SQLite. They are read before the folded files are listed: a file that is
    folded meanwhile is then seen twice, and not missed."""
    con.register("arrow_responses", ResponseStore(root / "responses").live_table())
    con.execute("CREATE TABLE live_responses AS SELECT * FROM arrow_responses")
    con.unregister("arrow_responses")


def create_responses(
    con: duckdb.DuckDBPyConnection, files: str | None, live: str | None = None, options: str = ""
) -> None:
    """The view `responses`: what is folded is looked at, and only what is not folded yet is loaded.

    An answer may be there twice: folded while it was read, or paid for by two processes. Of two the first counts, and
    only keys are compared for that.
    """
    folded = view_query(RESPONSES.append(ORIGIN), files, options=options)
    every = f"{f'{live} UNION ALL BY NAME ' if live else ''}({folded})"
    _create_view(con, "every_response", every, RESPONSES.append(ORIGIN))
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


Parameters = Sequence[Any] | dict[str, Any] | None


def query(root: Path, sql: str, parameters: Parameters = None) -> Answer:
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

    def query(self, sql: str, parameters: Parameters = None) -> Answer:
        """Run one query and fetch all of its rows. Raises StoreError: the query is wrong."""

        def fetch(statement: duckdb.Statement) -> Answer:
            result = self._con.execute(statement, parameters)
            return Answer([column[0] for column in result.description or []], result.fetchall())

        return self._run(sql, fetch)

    def arrow(self, sql: str, parameters: Parameters = None) -> pa.Table:
        """Run one query; its whole answer as an Arrow table. Raises StoreError: the query is wrong."""

        return self._run(sql, lambda statement: self._con.sql(statement, params=parameters).to_arrow_table())

    def _run(self, sql: str, fetch: Callable[[duckdb.Statement], T]) -> T:
        with _told_as_ours():
            for _ in range(TRIES):
                statements = self._con.extract_statements(sql)
                if not only_reads(self._con, sql):
                    raise StoreError(
                        "a query is one SELECT (or EXPLAIN); the Parquet files are the record, and SQL only looks "
                        "at them"
                    )
                try:
                    return fetch(statements[0])
                except duckdb.IOException:
                    if not lost_files(self._con):
                        raise
                self._con.close()
                self._con = connect(self._root)  # looked at anew
            return fetch(self._con.extract_statements(sql)[0])


def only_reads(con: duckdb.DuckDBPyConnection, sql: str) -> bool:
    """Whether it is one SELECT or the EXPLAIN of one: EXPLAIN ANALYZE runs what it explains, be it a COPY TO."""
    statements = con.extract_statements(sql)
    if len(statements) == 1 and statements[0].type == duckdb.StatementType.EXPLAIN:
        explained = _EXPLAIN.match(sql)
        statements = con.extract_statements(sql[explained.end() :]) if explained else []
    return len(statements) == 1 and statements[0].type == duckdb.StatementType.SELECT


@contextmanager
def _told_as_ours() -> Iterator[None]:
    try:
        yield
    except duckdb.Error as exc:
        if damaged := _DAMAGED.search(str(exc)):
            said = str(exc).splitlines()[0]
            raise StoreError(f"{damaged[1]} cannot be read ({said}); {advice(Path(damaged[1]), exc)}") from exc
        raise StoreError(f"{exc}\nThe store has these views: {', '.join(sorted(COMMENTS))}.") from exc
