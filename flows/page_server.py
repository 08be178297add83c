"""As a script: the pages of stores on loopback, so that a link in Prefect's or MLflow's own page opens in a browser.

    python -m flows.page_server --host 127.0.0.1 --port 4201 --folder FOLDER

Serves .html files of the folders that are linked in FOLDER, lists none, and answers to names of this machine only.
"""

from __future__ import annotations

import argparse
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

NAMES = ("127.0.0.1", "localhost")


class PageHandler(SimpleHTTPRequestHandler):
    def send_head(self):
        path = Path(self.translate_path(self.path))
        # Another name is that of a web page elsewhere which has been pointed to this address.
        called = (self.headers.get("Host") or "").rpartition(":")[0]
        if called not in NAMES or path.suffix != ".html" or not path.is_file():
            self.send_error(404)
            return None
        return super().send_head()

    def log_message(self, *args: object) -> None: ...


if __name__ == "__main__":
    options = argparse.ArgumentParser()
    for name, kind in (("--host", str), ("--port", int), ("--folder", str)):
        options.add_argument(name, type=kind, required=True)
    given = options.parse_args()
    ThreadingHTTPServer((given.host, given.port), partial(PageHandler, directory=given.folder)).serve_forever()
