"""Where a browser opens a page of a store: for runs under `fute up` at its page server, for others its file."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

FOLDER, ADDRESS = "FUTE_PAGES_FOLDER", "FUTE_PAGES_URL"
"""What the server serves, and where; set by `fute up`."""


def page_link(page: Path) -> str:
    page = page.resolve()
    folder, address = os.environ.get(FOLDER), os.environ.get(ADDRESS)
    if not folder or not address:
        return page.as_uri()
    # The server serves what is linked in its folder, and a link is called the same whenever it is made.
    name = hashlib.sha256(str(page.parent).encode()).hexdigest()[:16]
    Path(folder).mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        (Path(folder) / name).symlink_to(page.parent)
    return f"{address}/{name}/{quote(page.name)}"
