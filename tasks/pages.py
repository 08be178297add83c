"""The pages that a run leaves: its study's, and that of the whole store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import BaseModel

from fute.config import EndpointConfig
from fute.report import types as page
from fute.report.page import render_atlas
from storage.store import Store
from tasks.atlas import AtlasReader, write_store_page
from tasks.run import Failure


class Pages(BaseModel):
    """Where the pages of a run are."""

    study: str
    store: str


def pages_of(
    store: Store,
    study: str,
    spaces: Sequence[str],
    endpoints: Sequence[EndpointConfig],
    notes: Mapping[str, Sequence[str]],
    failures: Sequence[Failure],
) -> Pages:
    """Write the page of a study, and that of the whole store anew.

    Args:
        endpoints: the study's, for their prices: the store learns of them when the run ends.
        notes: by space, what a reader should be told about it.
    """
    sentences = {space: [f"{note[0].upper()}{note[1:]}." for note in told] for space, told in notes.items()}
    told = [page.Failure(f.subject, f"{f.stage}: {f.reason}") for f in failures]
    with AtlasReader(store, {e.id: e for e in endpoints}, sentences) as reader:
        own = store.put_report(f"study-{study}.html", render_atlas(reader.atlas(study, spaces, told)))
        ours = [page.Failure(f.id, f"{study}, {f.reason}") for f in told]
        of_all = write_store_page(reader, [*ours, *reader.failures(but_of=study)])
    return Pages(study=str(own), store=str(of_all))
