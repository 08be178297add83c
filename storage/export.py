"""A catalog.duckdb that holds the views and macros, for BI tools and notebooks that open DuckDB files.

It holds no data: its views read the store's Parquet files when they are asked, new ones too. Their paths are absolute,
since DuckDB would look for others from wherever the tool happens to run; a store that was moved is exported again.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import duckdb

from fute.errors import StoreError
from storage.schema_version import require_readable
from storage.view_files import MADE, ORIGIN, View
from storage.views import COMMENTS, create_views, nulls

STORAGE_VERSION = "v1.0.0"
"""Of the file: DuckDB 1.0 and later open it, in BI tools that bring an older one along, too."""

# Without it a view of which the store has no file yet would be an error; before it, such a view stays empty.
# Only such a view asks for it: an older DuckDB knows the option as little as ours did then, and reads the others.
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
        with duckdb.connect() as con:
            quoted = str(temporary).replace("'", "''")
            con.execute(f"ATTACH '{quoted}' AS catalog (STORAGE_VERSION '{STORAGE_VERSION}')")
            con.execute("USE catalog")
            _create_views(con, root.resolve())
        os.replace(temporary, target)
    except OSError as exc:
        raise StoreError(f"{target} cannot be written ({exc}); give another place") from exc
    except duckdb.Error as exc:
        raise StoreError(f"the catalog of {root} cannot be exported: {exc}") from exc
    finally:
        temporary.unlink(missing_ok=True)


def _create_views(con: duckdb.DuckDBPyConnection, root: Path) -> None:
    create_views(con, lambda view: _rows(view, root, _folding_glob(view) if view.key else view.glob))
    for name, comment in COMMENTS.items():
        text = comment.replace("'", "''")
        con.execute(f"COMMENT ON VIEW {name} IS '{text}'")


def _rows(view: View, root: Path, glob: str) -> str:
    """A view's columns from Parquet files; null where a file lacks one, and no rows where there is no file."""
    every = view.schema if ORIGIN.name in view.schema.names else view.schema.append(ORIGIN)
    rows = f"(SELECT {nulls(every)} LIMIT 0)"
    there = next(root.glob(glob), None) is not None
    if there or ALLOW_EMPTY:
        # Quotes doubled: the path is ours, but may hold an apostrophe, and a view takes no bound values.
        # The store's own path holds no pattern: DuckDB would read [prod] as one letter of the four.
        literal = re.sub(r"[*?\[]", r"[\g<0>]", str(root))
        path = f"{literal}/{glob}".replace("'", "''")
        options = "union_by_name = true, hive_partitioning = false, filename = 'origin'" + (
            "" if there else ALLOW_EMPTY
        )
        rows += f" UNION ALL BY NAME (SELECT * FROM read_parquet('{path}', {options}))"
    columns = (f'{MADE[name].sql} AS "{name}"' if name in view.made else f'"{name}"' for name in view.schema.names)
    return f"SELECT {', '.join(columns)} FROM ({rows})"


def _folding_glob(view: View) -> str:
    """Of the small files and the folded ones, whichever there are at the time."""
    folder, _, name = view.glob.rpartition("/")
    return f"{folder}/**/{name}"
