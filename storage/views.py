"""The views and macros that SQL finds in a store: what each one is, and the query behind it.

Views of files come first; the rest is made of them. A record that lies in several files, since it is being folded,
counts once (storage/parts.py).
"""

from __future__ import annotations

from collections.abc import Callable

import duckdb
import pyarrow as pa

from storage import schemas
from storage.view_files import View

VIEWS = [
    View("datasets", "datasets/*/card.parquet", schemas.DATASETS, "labelled datasets as sampled"),
    View("pools", "pools/cards/*.parquet", schemas.POOLS, "unlabelled inputs given to every model"),
    View("pool_rows", "pools/*.parquet", schemas.POOL_ROWS, "the pools' inputs, row by row", made=("pool",)),
    View("models", "models/*/card.parquet", schemas.MODELS, "models of the zoo, with held-out score where known"),
    View(
        "prompts",
        "prompts/*.parquet",
        schemas.PROMPTS,
        "prompt templates and verbalizers",
        later=("cot", "follow_up", "answer", "parse"),
    ),
    View(
        "outputs",
        "outputs/*/*.parquet",
        schemas.OUTPUTS,
        "what each model answered on each pool row",
        later=("answer_key", "other_keys"),
    ),
    View("spaces", "spaces/*.parquet", schemas.SPACES, "surrogate + method + settings + pool"),
    View(
        "embeddings",
        "embeddings/*/*/*.parquet",
        schemas.EMBEDDINGS,
        "the vectors, with everything they came from",
        key="space, kind, fingerprint",
    ),
    View("frames", "frames/*/*.parquet", schemas.FRAMES, "what all tasks of a space share, and what is chance"),
    View("alignments", "alignments/*.parquet", schemas.ALIGNMENTS, "maps of one space into another, and how faithful"),
    View("member_history", "members/*/*.parquet", schemas.MEMBERS, "which embeddings every unification saw"),
    View("retirements", "retired/*.parquet", schemas.RETIREMENTS, "subjects taken out of rankings, and brought back"),
    # Two runs at once may judge a pair twice.
    View(
        "accuracies",
        "accuracies/*/*.parquet",
        schemas.ACCURACIES,
        "how often each model will be right on each labelled dataset",
        key="pool, surrogate, revision, settings, dataset, model",
    ),
    View(
        "evaluations",
        "evaluations/*.parquet",
        schemas.EVALUATIONS,
        "measures of retrieval and ranking",
        later=("candidate", "seed", "details"),
    ),
    View(
        "drift",
        "drift/checks/*/*.parquet",
        schemas.DRIFT,
        "checks whether a prompted model still answers as it did",
        later=tuple(name for name in schemas.DRIFT.names if name not in schemas.DRIFT_OF_FORMER),
        key="model_ref, created_at",
    ),
    View(
        "drift_baselines",
        "drift/baselines/*/*.parquet",
        schemas.DRIFT_BASELINES,
        "what it answered at first",
        later=("study", "settings", "served", "label_names"),
    ),
    # A run that is tried again has several.
    View(
        "runs",
        "runs/*.parquet",
        schemas.RUNS,
        "flow runs, their state and what failed",
        key="coalesce(flow_run_id, CAST(created_at AS VARCHAR))",
    ),
    # Those that are exported; the others come beside them. One may be there twice: exported while it was read, or paid
    # for by two machines.
    View(
        "responses",
        "responses/*.parquet",
        schemas.RESPONSES,
        "every LLM request and answer, with tokens, cost, latency and run",
        later=("cost_usd", "run_id", "flow_run_id"),
        key="key",
    ),
]

# Rows of the datasets, whose label becomes a name in the view dataset_rows.
DATASET_FILES = View(
    "dataset_files",
    "datasets/*/[tv]*.parquet",
    schemas.DATASET_FILES,
    made=("dataset", "split"),
    later=("label", "start", "end"),  # of which a dataset has those of its task
)

# Rankings, of which those of earlier versions have the cosine as their score.
NEIGHBOR_FILES = View(
    "neighbor_files",
    "neighbors/*/*.parquet",
    schemas.NEIGHBORS,
    later=("p_value", "verdict", "ahead", "ahead_low", "ahead_high", "similarity"),
)

READ = [*VIEWS, DATASET_FILES, NEIGHBOR_FILES]
"""Whatever is read from Parquet; the rest is made of these."""

# What is said of each view that is made of others, and its query.
DERIVED = {
    "neighbor_history": (
        "ranked neighbours of every unification",
        """
        SELECT * REPLACE (
            CASE WHEN similarity IS NOT NULL THEN score END AS score,
            CASE WHEN similarity IS NOT NULL THEN ci_low END AS ci_low,
            CASE WHEN similarity IS NOT NULL THEN ci_high END AS ci_high,
            coalesce(similarity, score) AS similarity
        ) FROM neighbor_files
        """,
    ),
    "members": (
        "which embedding of each subject the last unification of each space saw",
        """
        SELECT * FROM member_history ANTI JOIN retired USING (kind, subject)
        WHERE (space, created_at) IN (SELECT (space, max(created_at)) FROM member_history GROUP BY space)
        """,
    ),
    "neighbors": (
        "ranked neighbours of the last unification of each space, and how often models will be right",
        # Not by a window over the whole history, which reads all columns of all unifications.
        """
        SELECT n.*, a.expected_accuracy, a.accuracy_low, a.accuracy_high, a.accuracy_unknown
        FROM (
            SELECT * REPLACE (
                CAST(row_number() OVER best AS INTEGER) AS rank,
                -- The lead over a second that was retired is nobody's.
                CASE WHEN lead(r.rank) OVER best = 2 THEN ahead END AS ahead,
                CASE WHEN lead(r.rank) OVER best = 2 THEN ahead_low END AS ahead_low,
                CASE WHEN lead(r.rank) OVER best = 2 THEN ahead_high END AS ahead_high
            )
            FROM neighbor_history r
            ANTI JOIN retired q ON q.kind = r.query_kind AND q.subject = r.query
            ANTI JOIN retired c ON c.kind = r.candidate_kind AND c.subject = r.candidate
            WHERE (space, created_at) IN (SELECT (space, max(created_at)) FROM neighbor_history GROUP BY space)
            WINDOW best AS (PARTITION BY space, query_kind, query, candidate_kind ORDER BY r.rank)
        ) n
        LEFT JOIN space_accuracies a
            ON a.space = n.space AND n.query_kind <> n.candidate_kind
            AND a.dataset = CASE n.query_kind WHEN 'dataset' THEN n.query ELSE n.candidate END
            AND a.model = CASE n.query_kind WHEN 'dataset' THEN n.candidate ELSE n.query END
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
    "prompt_answers": (
        "what was asked of an LLM with which prompt about which pool row, and what it cost",
        """
        SELECT m.settings->>'prompt' AS prompt, o.model, o.pool, o.row, a.key, a.service, a.model AS llm, a.answer,
               a.tokens_in, a.tokens_out, a.cost_usd, a.latency_ms, a.run_id, a.flow_run_id, a.created_at
        FROM (
            SELECT model, pool, row, unnest(list_append(coalesce(other_keys, []), answer_key)) AS key
            FROM outputs WHERE answer_key IS NOT NULL
        ) o
        JOIN responses a USING (key)
        LEFT JOIN (SELECT DISTINCT ON (ref) ref, settings FROM models) m ON m.ref = o.model
        """,
    ),
}

COMMENTS = {
    **{view.name: view.comment for view in VIEWS},
    **{name: comment for name, (comment, _) in DERIVED.items()},
}
"""Every view that is documented and kept stable, with what it holds."""

RETIRED = """
        SELECT kind, subject FROM retirements GROUP BY kind, subject HAVING max_by(retired, created_at)
"""

# The accuracies of those that the last unification of a space saw, by their ids.
SPACE_ACCURACIES = """
        SELECT s.space, d.subject AS dataset, m.subject AS model,
               a.expected_accuracy, a.accuracy_low, a.accuracy_high, a.accuracy_unknown
        FROM accuracies a
        JOIN (SELECT DISTINCT ON (space) * FROM spaces) s
            ON s.pool = a.pool AND s.surrogate = a.surrogate AND s.revision IS NOT DISTINCT FROM a.revision
            AND coalesce(s.settings->>'surrogate', 'null') = coalesce(a.settings->>'surrogate', 'null')
        JOIN members d
            ON d.space = s.space AND d.kind = 'dataset' AND d.subject || '@' || d.subject_fingerprint = a.dataset
        JOIN members m
            ON m.space = s.space AND m.kind = 'model' AND m.subject || '@' || m.subject_fingerprint = a.model
"""

# Which embedding of each subject counts, as VectorStore.population has it: that of the last unification or a later one.
COUNTED = """
        SELECT space, kind, fingerprint
        FROM (SELECT space, kind, subject, fingerprint, created_at FROM embeddings) e
        ANTI JOIN retired USING (kind, subject)
        LEFT JOIN (SELECT space, kind, fingerprint, created_at AS ranked_at FROM members) m
            USING (space, kind, fingerprint)
        QUALIFY row_number() OVER (
            PARTITION BY space, kind, subject
            ORDER BY coalesce(ranked_at, created_at) DESC, ranked_at IS NULL, fingerprint DESC) = 1
"""

MACROS = [
    # The k nearest of each kind, in every space that the subject is in.
    """
    CREATE MACRO nearest(subject_id, k := 5) AS TABLE
        SELECT s.method, n.candidate_kind, n.rank, n.candidate, n.expected_accuracy, n.accuracy_low, n.accuracy_high,
               n.accuracy_unknown, n.score, n.ci_low, n.ci_high,
               n.verdict, n.p_value, n.ahead, n.ahead_low, n.ahead_high, n.similarity, n.space, n.query_kind
        FROM neighbors n LEFT JOIN spaces s USING (space)
        WHERE n.query = subject_id AND n.rank <= k
        ORDER BY n.space, n.query_kind, n.candidate_kind, n.rank
    """,
    # A cosine of two vectors, refused across spaces: their axes mean different things.
    """
    CREATE MACRO task_similarity(space_a, vector_a, space_b, vector_b) AS
        CASE WHEN space_a = space_b THEN list_cosine_similarity(vector_a, vector_b)
             ELSE error('vectors of spaces ' || space_a || ' and ' || space_b || ' cannot be compared: '
                        || 'another surrogate, method or pool gives the axes another meaning') END
    """,
    # Two subjects by name: raw cosine (not in the space's frame) in each space that holds both.
    """
    CREATE MACRO compare(subject_a, subject_b) AS TABLE
        SELECT a.space, a.method, a.subject AS subject_a, b.subject AS subject_b,
               list_cosine_similarity(a.vector, b.vector) AS raw_cosine, a.kind AS kind_a, b.kind AS kind_b
        FROM (FROM embeddings SEMI JOIN counted_embeddings USING (space, kind, fingerprint)) a
        JOIN (FROM embeddings SEMI JOIN counted_embeddings USING (space, kind, fingerprint)) b ON a.space = b.space
        WHERE a.subject = subject_a AND b.subject = subject_b
        QUALIFY row_number() OVER (
            PARTITION BY a.space, a.kind, b.kind ORDER BY a.created_at DESC, b.created_at DESC) = 1
    """,
    # Vectors compared as they are, one with all: for subjects that no unification has ranked.
    """
    CREATE MACRO most_similar(subject_id, k := 10) AS TABLE
        WITH wanted AS (
            SELECT space, kind, vector FROM embeddings SEMI JOIN counted_embeddings USING (space, kind, fingerprint)
            WHERE subject = subject_id
        )
        SELECT e.space, e.method, e.kind, e.subject, e.fingerprint,
               list_cosine_similarity(e.vector, w.vector) AS raw_cosine, w.kind AS query_kind
        FROM (FROM embeddings ANTI JOIN retired USING (kind, subject)) e JOIN wanted w ON e.space = w.space
        WHERE e.subject <> subject_id OR e.kind <> w.kind
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
}

QUERIES = {
    **{view.name: view.once for view in VIEWS if view.key},
    "neighbor_history": DERIVED["neighbor_history"][1],
    "retired": RETIRED,
    "members": DERIVED["members"][1],
    "space_accuracies": SPACE_ACCURACIES,
    **{name: query for name, (_, query) in DERIVED.items()},
    "counted_embeddings": COUNTED,
}
TABLE_MACROS = {
    macro.split("(")[0].split()[-1]: macro.partition("AS TABLE")[2] for macro in MACROS if "AS TABLE" in macro
}

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


def nulls(schema: pa.Schema) -> str:
    """A row of nulls, as the columns of a SELECT."""
    return ", ".join(f'CAST(NULL AS {sql_type(f.type)}) AS "{f.name}"' for f in schema)


def create_views(con: duckdb.DuckDBPyConnection, rows: Callable[[View], str]) -> None:
    """All views and macros.

    Args:
        rows: the query for what a view's files hold.
    """
    for name, query in {**{view.files.name: rows(view.files) for view in READ}, **QUERIES}.items():
        con.execute(f"CREATE VIEW {name} AS {query}")
    for macro in MACROS:
        con.execute(macro)
