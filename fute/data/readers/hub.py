"""Datasets of the Hugging Face hub, by name, at a commit that is known and recorded."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from fute.config import HubSource
from fute.data.rows import arrow_table
from fute.errors import DataError

if TYPE_CHECKING:
    import datasets

_COMMIT = re.compile(r"[0-9a-f]{40}")
_TIMEOUT_S = 20.0  # for one answer of the hub about a dataset


def resolve_commit(source: HubSource) -> str:
    """The commit that the source's revision stands for: asked of the hub, or else that of the copy in the cache.

    Raises:
        DataError: no such dataset or revision, or neither the hub nor a cached copy can be reached.
    """
    # Imported here: a second or two, which studies over local files need not spend.
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError, RepositoryNotFoundError, RevisionNotFoundError

    if source.revision is not None and _COMMIT.fullmatch(source.revision):
        return source.revision
    try:
        commit = HfApi().dataset_info(source.name, revision=source.revision, timeout=_TIMEOUT_S).sha
    except RepositoryNotFoundError as exc:
        raise DataError(
            f"the hub has no dataset {source.name!r} that you may read; check the name, "
            "or log in (`hf auth login`) if it is private or gated"
        ) from exc
    except RevisionNotFoundError as exc:
        raise DataError(f"{source.name} has no revision {source.revision!r}; name a commit, tag or branch") from exc
    except (OSError, HTTPError) as exc:
        if source.revision is not None:
            # The cache knows commits, not what a tag or branch stood for.
            raise _unreachable(source, exc) from exc
        commit = _builder(source, None).hash
    if not commit:
        raise DataError(f"the hub names no commit for {source.name}; set `revision` to one")
    return commit


@dataclass(frozen=True)
class HubReader:
    source: HubSource
    base_dir: Path

    def tables(self, text: Sequence[str], other: Sequence[str]) -> dict[str, pa.Table]:
        """Columns of each split, with the dataset's features in the schema's metadata.

        Raises:
            DataError: what `resolve_commit` raises; no such subset, split or column; the cache holds another commit.
        """
        source = self.source
        builder = _builder(source, resolve_commit(source))
        try:
            builder.download_and_prepare()
            there = list(builder.info.splits or {})
            tables = {}
            for ours, theirs in source.splits.items():
                if there and re.split(r"[\[+]", theirs)[0] not in there:
                    raise DataError(f"{source.name} has no split {theirs!r}; it has: {', '.join(there)}")
                rows = builder.as_dataset(split=theirs)
                tables[ours] = arrow_table(rows, [*text, *other], f"{source.name} ({theirs})")
        except (OSError, ValueError) as exc:
            if isinstance(exc, DataError):
                raise
            raise DataError(f"{source.name} could not be loaded: {exc}") from exc
        return tables

    def remarks(self, columns: Sequence[str]) -> list[str]:
        return []

    def identity(self) -> dict[str, Any]:
        commit = resolve_commit(self.source)
        name, subset, splits = self.source.name, self.source.subset, self.source.splits
        return {"name": name, "subset": subset, "commit": commit, "splits": dict(splits)}

    def problems(self, columns: Sequence[str]) -> list[str]:
        return []  # all that could be asked is online

    def split_names(self) -> list[str]:
        return list(self.source.splits)

    def parts(self) -> list[tuple[str, HubSource]]:
        return [(self.source.name, self.source)]


def _builder(source: HubSource, commit: str | None) -> datasets.DatasetBuilder:
    import datasets
    from huggingface_hub.errors import HTTPError

    try:
        builder = datasets.load_dataset_builder(source.name, source.subset, revision=commit)
    except ValueError as exc:
        # No such subset: the message of `datasets` lists those that there are.
        raise DataError(f"{source.name} could not be loaded: {exc}. Set `subset` to one that exists") from exc
    except (OSError, HTTPError) as exc:
        raise _unreachable(source, exc) from exc
    # Where the hub is out of reach, `datasets` takes the newest cached copy, whatever revision was asked for.
    if commit is not None and builder.hash is not None and _COMMIT.fullmatch(builder.hash) and builder.hash != commit:
        raise DataError(
            f"{source.name} was asked for at {commit}, but only {builder.hash} is in the cache and the hub cannot be "
            "reached; set `revision` to that, or fetch the other one"
        )
    return builder


def _unreachable(source: HubSource, exc: Exception) -> DataError:
    return DataError(
        f"{source.name} is neither on a hub that can be reached nor in the cache ({exc}). Go online (and unset "
        "HF_HUB_OFFLINE, if it is set); or load it once where there is a hub and bring the cache along "
        "(HF_HOME); or download it as Parquet and use `source: files`"
    )
