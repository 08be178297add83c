"""A catalog.duckdb that holds the views and macros, for BI tools and notebooks that open DuckDB files.

It holds no data: its views read the store's Parquet files when they are asked, new ones too. Their paths are absolute,
since DuckDB would look for others from wherever the tool happens to run; a store that was moved is exported again.
"""

from __future__ import annotations

import os
from pathlib import Path

import duckdb

from fute.errors import StoreError
from storage.catalog import COMMENTS, DATASET_FILES, VIEWS, View, create_derived, create_responses, create_view
from storage.schema_version import require_readable

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
    for view in (*VIEWS, DATASET_FILES):
        create_view(
            con, view, _files(root, _folding_glob(view) if view.folds else view.glob), ALLOW_EMPTY, folded=view.folds
        )
    create_responses(con, _files(root, "responses/*.parquet"), options=ALLOW_EMPTY)
    create_derived(con)
    for name, comment in COMMENTS.items():
        text = comment.replace("'", "''")
        con.execute(f"COMMENT ON VIEW {name} IS '{text}'")


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
