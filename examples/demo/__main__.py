"""`python -m examples.demo`: write the data, start the endpoint, and run the quickstart over both as anyone would."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path

import click

from flows.cli import main

from .data import demo_data
from .endpoint import DemoEndpoint

CLONE = Path(__file__).resolve().parents[2]
ENDPOINT = "standin"
PORT = 8377  # that of examples/quickstart.yaml


@click.command()
@click.option("--data-only", is_flag=True, help="Write the data that the examples read, and stop.")
@click.option("--endpoint", "serve", is_flag=True, help="Start the endpoint where the examples look for it, and stay.")
def demo(data_only: bool, serve: bool) -> None:
    """Make the demo's data, start its loopback endpoint, and run examples/quickstart.yaml."""
    folder = demo_data(CLONE / "demo" / "data")
    if data_only:
        click.echo(folder)
        return
    if serve:
        with DemoEndpoint(port=PORT) as endpoint:
            click.echo(f"{endpoint.base_url}, {endpoint.about}; Ctrl-C ends it")
            with suppress(KeyboardInterrupt):
                threading.Event().wait()
        return
    study = os.path.relpath(CLONE / "examples" / "quickstart.yaml")
    with DemoEndpoint() as endpoint:
        click.echo(f"LLM endpoint of this demo: {endpoint.base_url} on loopback, {endpoint.about}.", err=True)
        main(["run", study, "--base-url", f"{ENDPOINT}={endpoint.base_url}"], prog_name="fute")


if __name__ == "__main__":
    demo()
