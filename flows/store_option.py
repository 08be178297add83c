"""How a command is told its store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from fute.address import is_url
from fute.errors import NotInStoreError

F = TypeVar("F", bound=Callable[..., Any])


class StoreFolder(click.Path):
    """A store's folder; of one on object storage its mirror here, with all that is there by now."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from storage.store import Store

        return Store(value).pull().root if is_url(str(value)) else super().convert(value, param, ctx)


def _option(kind: click.ParamType) -> Callable[[F], F]:
    return click.option(
        "--store",
        type=kind,
        default="store",
        show_default=True,
        envvar="FUTE_STORE",
        show_envvar=True,
        help="Folder of the store, or its URL (s3://bucket/prefix).",
    )


store_option = _option(StoreFolder(file_okay=False, path_type=Path))
store_address_option = _option(click.STRING)
"""As it was given: nothing of a store on object storage is fetched."""


def known_store(store: Path) -> Path:
    """The folder, made absolute. Raises NotInStoreError: it is not there, or holds something else."""
    from storage.schema_version import is_store

    if not is_store(store):
        raise NotInStoreError(
            f"no store at {store.resolve()}; give --store, or set FUTE_STORE (the demo's is demo/store, a study's is "
            "store/ beside it)"
        )
    return store.resolve()
