"""A PostgreSQL server on loopback for tests, run by a user who is not root, as it demands."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

START_TIMEOUT_S = 60
USER, PASSWORD = "fute", "only-for-the-test"


def programs() -> Path | None:
    """The folder of the server's programs; None where it is not installed."""
    found = [Path(p).resolve() for p in (shutil.which("initdb"),) if p]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)  # Debian keeps them off the path
    return next(
        (p.parent for p in found if all((p.parent / n).exists() for n in ("postgres", "createdb", "psql"))), None
    )


def _not_root() -> str | None:
    """Whom to run it as; None: as whoever runs the test."""
    if os.getuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"


@contextmanager
def postgres(folder: Path, port: int) -> Iterator[None]:
    """A running server with an empty database `prefect` of the user fute; ended and removed afterwards."""
    user = _not_root()
    # Not below the test's own folder: that may not be entered by another user.
    home = Path(tempfile.mkdtemp(prefix="fute-postgres-"))
    try:
        (home / "password").write_text(PASSWORD)
        if user is not None:
            shutil.chown(home, user)
            shutil.chown(home / "password", user)

        def run(*arguments: str) -> None:
            subprocess.run([str(folder / arguments[0]), *arguments[1:]], user=user, check=True, capture_output=True,
                           cwd=home, env={**os.environ, "PGPASSWORD": PASSWORD})  # fmt: skip

        run("initdb", "-D", str(home / "data"), "-U", USER, "--pwfile", str(home / "password"), "-A", "scram-sha-256",
            "--no-sync")  # fmt: skip
        with (home / "log").open("wb") as log:
            server = subprocess.Popen(
                [str(folder / "postgres"), "-D", str(home / "data"), "-p", str(port), "-h", "127.0.0.1", "-k", "",
                 "-c", "fsync=off"],
                user=user, cwd=home, stdout=log, stderr=log,
            )  # fmt: skip
        try:
            deadline = time.monotonic() + START_TIMEOUT_S
            while True:
                try:
                    run("createdb", "-h", "127.0.0.1", "-p", str(port), "-U", USER, "prefect")
                    break
                except subprocess.CalledProcessError as exc:
                    if server.poll() is not None or time.monotonic() > deadline:
                        raise RuntimeError(f"{exc.stderr!r}\n{(home / 'log').read_text()}") from exc
                    time.sleep(0.3)
            yield
        finally:
            server.kill()
            server.wait()
    finally:
        shutil.rmtree(home, ignore_errors=True)
