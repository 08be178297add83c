"""A catalog.duckdb that holds the views and macros, for BI tools and notebooks that open DuckDB files.

It holds no data: its views read the store's Parquet files when they are asked, new ones too. Their paths are absolute,
since DuckDB would look for others from wherever the tool happens to run; a store that was moved is exported again.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import duckdb
import pyarrow as pa

from fute.errors import StoreError
from storage.catalog import COMMENTS, FILES, create_derived, nulls
from storage.responses import ORIGIN
from storage.schema_version import require_readable
from storage.view_files import MADE, View, live_files, rows_of

# Without it a view of which the store has no file yet would be an error; before it, such a view stays empty.
ALLOW_EMPTY = ", allow_empty = true" if int(duckdb.__version__.partition(".")[0]) >= 2 else ""


def export_catalog(root: Path, target: Path) -> None:
    """Write the catalog of the store at `root` to a DuckDB file; one that is there is replaced at once.

    Raises:
        StoreError: there is no store, it is of a later fute, or the file cannot be written.
    """
    if not root.is_dir():
        raise StoreError(f"no store at {root}; give --store")
    require_readable(root)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with duckdb.connect(str(temporary)) as con:
            _create_views(con, root.resolve())
        os.replace(temporary, target)
    except OSError as exc:
        raise StoreError(f"{target} cannot be written ({exc}); give another place") from exc
    except duckdb.Error as exc:
        raise StoreError(f"the catalog of {root} cannot be exported: {exc}") from exc
    finally:
        temporary.unlink(missing_ok=True)


def _create_views(con: duckdb.DuckDBPyConnection, root: Path) -> None:
    for view in FILES:
        try:
            rows_of(view, live_files(root, view))
        except StoreError as exc:  # a damaged file, which is in the way of this view alone
            told = f"{exc}; then export the catalog again".replace("'", "''")
            con.execute(f"CREATE VIEW {view.name} AS SELECT {nulls(view.schema)} WHERE error('{told}') IS NULL")
            continue
        files = _files(root, _folding_glob(view) if view.folds else view.glob)
        if view.name == "embeddings":
            query = _embeddings_once(con, view, files)
        else:
            query = _rows(view.schema, files, view.made)
            if view.folds:
                query = f"SELECT * FROM (SELECT DISTINCT * FROM ({query})) {view.only}"
        con.execute(f"CREATE VIEW {view.name} AS {query}")
    create_derived(con)
    for name, comment in COMMENTS.items():
        text = comment.replace("'", "''")
        con.execute(f"COMMENT ON VIEW {name} IS '{text}'")


def _rows(schema: pa.Schema, files: str | None, made: Sequence[str] = ()) -> str:
    """The columns of a schema from Parquet files; null where a file lacks one.

    Args:
        files: SQL for the glob; None: there are no files, and the answer is empty.
        made: columns that are made of the file's name.
    """
    every = schema if ORIGIN.name in schema.names else schema.append(ORIGIN)
    rows = f"(SELECT {nulls(every)} LIMIT 0)"
    if files is not None:
        options = f"union_by_name = true, hive_partitioning = false, filename = 'origin'{ALLOW_EMPTY}"
        rows += f" UNION ALL BY NAME (SELECT * FROM read_parquet({files}, {options}))"
    columns = ", ".join(f'{MADE[name].sql if name in made else quoted(name)} AS "{name}"' for name in schema.names)
    return f"SELECT {columns} FROM ({rows})"


def quoted(name: str) -> str:
    return f'"{name}"'


def _folding_glob(view: View) -> str:
    """Of the small files and the folded ones, whichever there are at the time."""
    folder, _, name = view.glob.rpartition("/")
    return f"{folder}/**/{name}"


def _files(root: Path, glob: str) -> str | None:
    """The glob as SQL; None where there is nothing, and this DuckDB would take that for an error."""
    if not ALLOW_EMPTY and next(root.glob(glob), None) is None:
        return None
    # Quotes doubled: the path is ours, but may hold an apostrophe, and a view takes no bound values.
    path = str(root / glob).replace("'", "''")
    return f"'{path}'"


def _embeddings_once(con: duckdb.DuckDBPyConnection, view: View, files: str | None) -> str:
    """Each embedding once, also while folded files wait for their removal. Only fingerprints are compared for that."""
    query = _rows(view.schema.append(ORIGIN), files)
    con.execute(f"CREATE VIEW every_embedding AS {query}")
    con.execute("""
        CREATE VIEW repeated_embeddings AS
            SELECT space, kind, fingerprint, min(origin) AS first_origin
            FROM every_embedding GROUP BY ALL HAVING count(*) > 1
    """)
    return """
        SELECT e.* EXCLUDE (origin)
        FROM every_embedding e LEFT JOIN repeated_embeddings USING (space, kind, fingerprint)
        WHERE first_origin IS NULL OR origin = first_origin
    """
