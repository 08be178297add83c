"""`fute init`: a first study from what lies in a folder."""

from __future__ import annotations

from pathlib import Path

import click

from fute.errors import ConfigError
from fute.terminal import printable

NAME = "study.yaml"


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path), default=".")
def init(folder: Path) -> None:
    """Look at the files of FOLDER and write a study of them, study.yaml, unless there is one.

    Takes files of rows (with labels, without, or of predictions) and folders of pretrained models; opens no pickle and
    runs no code.
    """
    from fute.first_study import first_study

    file = folder / NAME
    if file.exists():
        raise ConfigError(f"{file} is there already; move it away, or give another folder")
    study = first_study(folder)
    with file.open("x", encoding="utf-8") as lines:
        lines.write(study.text)
    for what, entries in (("took", study.taken), ("left", study.left)):
        for name, told in entries.items():
            click.echo(printable(f"{what}  {name}: {told}"))
    click.echo(printable(f"\nwrote {file}; what it would do: fute check {file}"))
