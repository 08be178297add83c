"""The demo: generated data, a stand-in endpoint on loopback, and the real pipeline over both."""

from __future__ import annotations

from pathlib import Path

import click

from fute.demo.data import write_demo_data
from fute.demo.endpoint import DemoEndpoint
from fute.load_study import load_study

DATA = "../demo/data"  # from the examples' folder, as their paths say
ENDPOINT = "standin"


def demo_data(study: Path) -> Path:
    """Write the demo's data where the example studies look for them, unless they are there."""
    folder = load_study(study).path(DATA)
    if not (folder / "complete").is_file():
        click.echo(f"Writing generated tasks and texts to {folder}", err=True)
        write_demo_data(folder)
        (folder / "complete").touch()
    return folder


def run_demo(study: Path) -> int:
    """Run the demo's study; returns the exit code."""
    from flows.cli import run_study

    demo_data(study)
    with DemoEndpoint() as endpoint:
        click.echo(f"LLM endpoint of this demo: {endpoint.base_url} on loopback, {endpoint.about}.", err=True)
        return run_study(study, {ENDPOINT: endpoint.base_url})
