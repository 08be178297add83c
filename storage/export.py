"""A catalog.duckdb that holds the views and macros, for BI tools and notebooks that open DuckDB files.

It holds no data: its views read the store's Parquet files when they are asked, new ones too. Their paths are absolute,
since DuckDB would look for others from wherever the tool happens to run; a store that was moved is exported again.
"""

from __future__ import annotations

import os
from pathlib import Path

import duckdb

from fute.errors import StoreError
from storage.catalog import COMMENTS, create_views, nulls
from storage.schema_version import require_readable
from storage.view_files import MADE, ORIGIN, View

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
    create_views(con, lambda view: _rows(view, _files(root, _folding_glob(view) if view.key else view.glob)))
    for name, comment in COMMENTS.items():
        text = comment.replace("'", "''")
        con.execute(f"COMMENT ON VIEW {name} IS '{text}'")


def _rows(view: View, files: str | None) -> str:
    """A view's columns from Parquet files; null where a file lacks one.

    Args:
        files: SQL for the glob; None: there are no files, and the answer is empty.
    """
    every = view.schema if ORIGIN.name in view.schema.names else view.schema.append(ORIGIN)
    rows = f"(SELECT {nulls(every)} LIMIT 0)"
    if files is not None:
        options = f"union_by_name = true, hive_partitioning = false, filename = 'origin'{ALLOW_EMPTY}"
        rows += f" UNION ALL BY NAME (SELECT * FROM read_parquet({files}, {options}))"
    columns = (f'{MADE[name].sql} AS "{name}"' if name in view.made else f'"{name}"' for name in view.schema.names)
    return f"SELECT {', '.join(columns)} FROM ({rows})"


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
