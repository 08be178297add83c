"""The sources of a pool by id: globs spread into their files, excluded ones left out. No rows are read here."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from fute.config import FileSource, HubSource, PoolConfig, PoolSourceConfig, PythonSource
from fute.data.files import matching_files
from fute.did_you_mean import did_you_mean
from fute.errors import ConfigError


@dataclass(frozen=True)
class PoolSource:
    """One source: where its rows come from, and the columns of its texts."""

    id: str
    data: FileSource | HubSource | PythonSource
    text: str
    text_pair: str | None

    @property
    def columns(self) -> list[str]:
        return [self.text] if self.text_pair is None else [self.text, self.text_pair]


def pool_sources(config: PoolConfig, base_dir: Path) -> list[PoolSource]:
    """All sources that are not excluded, by id.

    Raises:
        ConfigError: a file or glob that matches nothing, two sources of one id, an exclusion of none.
    """
    problems: list[str] = []
    sources: dict[str, PoolSource] = {}
    for number, entry in enumerate(config.sources):
        try:
            found = list(_spread(entry, base_dir))
        except ConfigError as exc:
            problems.append(f"pool.sources[{number}]: {exc}")
            continue
        for source in found:
            if source.id in sources:
                problems.append(
                    f"pool.sources[{number}]: there is another source {source.id!r}; give one an `id` of its own"
                )
            sources[source.id] = source
    kept = dict(sources)
    for number, pattern in enumerate(config.exclude):
        hits = [id_ for id_ in sources if fnmatchcase(id_, pattern)]
        if not hits and not problems:
            problems.append(
                f"pool.exclude[{number}]: {pattern!r} matches none of the {len(sources)} sources"
                + did_you_mean(pattern, sources)
            )
        for id_ in hits:
            kept.pop(id_, None)
    if not kept and not problems:
        problems.append(f"pool.exclude leaves none of the {len(sources)} sources; take a pattern out")
    if problems:
        raise ConfigError("\n".join(problems))
    return [kept[id_] for id_ in sorted(kept)]


def _spread(entry: PoolSourceConfig, base_dir: Path) -> Iterable[PoolSource]:
    data = entry.data
    if isinstance(data, FileSource):
        if isinstance(data.files, str):
            paths = matching_files(data.files, base_dir)
            for path, name in zip(paths, _file_names(paths), strict=True):
                id_ = entry.id or name
                if entry.id is not None and len(paths) > 1:
                    id_ = f"{entry.id}/{name}"
                yield PoolSource(
                    id_, data.model_copy(update={"files": str(path.resolve())}), entry.text, entry.text_pair
                )
            return
        if not data.files:
            raise ConfigError("`files` is empty; name a file")
        default = Path(next(iter(data.files.values()))).stem
    else:
        default = data.name if isinstance(data, HubSource) else data.entry_point
    yield PoolSource(entry.id or default, data, entry.text, entry.text_pair)


def _file_names(paths: Sequence[Path]) -> list[str]:
    """A name for each file: its own without its ending; where several have it, with the folders they differ in too."""
    names = [path.stem for path in paths]
    if len(set(names)) < len(names):
        root = os.path.commonpath([path.parent for path in paths])
        below = [path.relative_to(root) for path in paths]
        names = _told_apart(names, [path.with_suffix("").as_posix() for path in below])
        names = _told_apart(names, [path.as_posix() for path in below])  # a.csv beside a.jsonl
    return names


def _told_apart(names: Sequence[str], longer: Sequence[str]) -> list[str]:
    count = Counter(names)
    return [long if count[name] > 1 else name for name, long in zip(names, longer, strict=True)]
