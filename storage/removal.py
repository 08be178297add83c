"""Removal of small files that were folded, once their parts have been read from end to end.

What was folded stays where it is for a while (`grace_s`), for who has just listed the folder is about to read it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from fute.errors import StoreError
from storage.files import remove_file
from storage.fold_kinds import KINDS, Folded, Kind, read_keys
from storage.folded_embeddings import USED, FoldedEmbeddings
from storage.folding import FOLDED, PARQUET, REPLACES, files_of, write_list
from storage.standing import Standing
from storage.store import Store
from storage.turns import Turn, folding_alone

GRACE_S = 300.0
"""How long folded files are kept for readers that have listed them."""

REMOVED_AT_ONCE = 500  # files between two renewals of the turn: on object storage each is a request


def remove_folded(store: Store, folder: Path, done: Folded, grace_s: float = GRACE_S) -> Folded:
    """Delete what was folded at least `grace_s` seconds ago, once its part has been read from end to end."""
    if not any((folder / FOLDED).glob(f"*{REPLACES}")):  # a turn costs requests
        return done
    kind = next(kind for kind in KINDS if folder.relative_to(store.root).match(kind.glob))
    with folding_alone(store, done.folder) as turn:
        if turn is None:
            return done
        store.pull()  # a part that was deleted on another machine, as damaged, stands for nothing any more
        files = files_of(folder)
        standing = Standing(files.parts, lambda part: read_keys(part, kind), timed=kind.latest)
        for part, replaced in files.replaced.items():
            try:
                age = time.time() - max(path.stat().st_mtime for path in (part, part.with_suffix(REPLACES)))
            except FileNotFoundError:  # itself folded into a larger one, and removed just now
                continue
            if age < grace_s:
                done.waiting += len(replaced)
                continue
            if fault := standing.fault(part):
                done.faults.append(
                    f"{part.relative_to(store.root)}: {fault}; it is damaged, and what it was made of is still there: "
                    f"delete it and its {REPLACES} file, and run the maintenance again"
                )
                continue
            _Removal(store, folder, kind, part, standing, turn, done).remove(replaced)
        _remove_lists_without_part(folder)
    return done


@dataclass
class _Removal:
    """Removal of what one part has replaced."""

    store: Store
    folder: Path
    kind: Kind
    part: Path
    standing: Standing
    turn: Turn
    done: Folded

    def remove(self, replaced: Sequence[Path]) -> None:
        used = {} if self.kind.latest else _times_of_use(self.part)
        kept: list[Path] = []
        freed = False
        for begin in range(0, max(len(replaced), 1), REMOVED_AT_ONCE):
            self.turn.renew()
            some = [path for path in replaced[begin : begin + REMOVED_AT_ONCE] if path.exists()]
            held, anew = self._held(some)
            freed = freed or bool(anew)
            kept += [path for path in some if path not in anew and not self._remove(path, used, held=path in held)]
        if not kept:
            remove_file(self.part.with_suffix(REPLACES))
        elif freed:
            write_list(self.store.scratch, self.folder, self.part, kept)

    def _held(self, paths: Sequence[Path]) -> tuple[set[Path], set[Path]]:
        """Those all of whose rows stand in parts that count; and records that were written again, which count anew."""
        named: dict[Path, pa.Table] = {}
        if not self.kind.latest:  # an embedding's file has its name: thousands need not be opened
            named = {path: _one_key(path) for path in paths if path.parent.name != FOLDED}
        held = self.standing.whole(named, self.part)
        read = {}
        for path in paths:
            if path not in held:
                with suppress(pa.ArrowException, OSError, KeyError):
                    read[path] = read_keys(path, self.kind)
        held |= self.standing.whole(read, self.part)
        anew = {path for path in read if self.kind.latest and path.parent.name != FOLDED} - held
        return held, anew

    def _remove(self, path: Path, used: Mapping[str, int], *, held: bool) -> bool:
        """Remove one file; False: it is kept, and hidden still."""
        try:
            changed_ns = path.stat().st_mtime_ns
            if not held:
                raise StoreError("not all of it stands in another file; it is kept")
            if changed_ns > used.get(path.stem, changed_ns):  # used between the folding and now
                FoldedEmbeddings(self.folder, self.store.scratch).was_used(path.stem, changed_ns)
        except FileNotFoundError:
            return True
        except StoreError as exc:
            self.done.faults.append(f"{path.relative_to(self.store.root)}: {exc}")
            return False
        remove_file(path)
        if path.parent.name == FOLDED:  # what it had replaced is replaced by this part as well
            remove_file(path.with_suffix(REPLACES))
        self.done.removed += 1
        return True


def _one_key(path: Path) -> pa.Table:
    return pa.table({"key": [path.stem], "time": [0]})


def _times_of_use(part: Path) -> dict[str, int]:
    """By fingerprint."""
    table = pq.read_table(part, columns=["fingerprint", USED], partitioning=None)
    return dict(zip(table["fingerprint"].to_pylist(), table[USED].to_pylist(), strict=True))


def _remove_lists_without_part(folder: Path) -> None:
    """What a folding left that was killed between its two steps, or a removal at its last one."""
    for path in (folder / FOLDED).glob(f"*{REPLACES}"):
        if not path.with_suffix(PARQUET).exists() and time.time() - path.stat().st_mtime > GRACE_S:
            remove_file(path)
