"""The sources of a pool by id: globs spread into their files, excluded ones left out. No rows are read here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from fute.config import PoolConfig, PoolSourceConfig, Source
from fute.data.read import reader_of
from fute.did_you_mean import did_you_mean
from fute.errors import ConfigError


@dataclass(frozen=True)
class PoolSource:
    """One source: where its rows come from, and the columns of its texts, or of its rows."""

    id: str
    data: Source
    text: str
    text_pair: str | None
    of_row: tuple[str, ...] | None = None

    @property
    def columns(self) -> list[str]:
        if self.of_row is not None:
            return list(self.of_row)
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
    parts = reader_of(entry.data, base_dir).parts()
    for name, data in parts:
        id_ = name if entry.id is None else entry.id if len(parts) == 1 else f"{entry.id}/{name}"
        yield PoolSource(id_, data, entry.text, entry.text_pair, tuple(entry.columns) if entry.columns else None)
