"""`fute align`, `fute export` and `fute import`: vectors read in another space, or carried to another store."""

from __future__ import annotations

from pathlib import Path

import click

from flows.rows import print_rows
from flows.store_option import known_store, store_address_option, store_option

NEAREST = ("subject", "kind", "candidate_kind", "rank", "candidate", "score", "p_value", "verdict")


@click.command()
@click.argument("space_a")
@click.argument("space_b")
@click.option("-k", default=1, show_default=True, type=click.IntRange(1), help="How many of each kind.")
@click.option("--json", "form", flag_value="json", help="As JSON, one object a row.")
@click.option("--csv", "form", flag_value="csv", help="As CSV.")
@store_option
def align(space_a: str, space_b: str, k: int, form: str | None, store: Path) -> None:
    """Read the subjects of SPACE_A in SPACE_B, another surrogate's over the same pool: what is nearest to each there.

    Says first how faithful the map is, measured on tasks of the pool's own and on subjects that both spaces hold; below
    a fidelity of 0.5 nothing is compared. `fute ls spaces` lists spaces, `fute ls alignments` what was measured.
    """
    from storage.store import Store
    from tasks.align import align as find

    aligned = find(Store(known_store(store)), space_a, space_b)
    found = aligned.alignment.require_faithful()
    click.echo(f"fidelity {found.fidelity:.2f}: {found.in_words()}", err=form is not None)
    if aligned.shared:
        told = f"{aligned.shared_first} of {aligned.shared} subjects that both spaces hold are nearest to themselves"
        click.echo(told, err=form is not None)
    rows = aligned.nearest(k)
    print_rows(list(NEAREST), [tuple(row[name] for name in NEAREST) for row in rows], form)


@click.command("export")
@click.argument("space")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--subject", "subjects", multiple=True, help="Only this one; may be given again.  [default: all]")
@store_option
def export_space(space: str, file: Path, subjects: tuple[str, ...], store: Path) -> None:
    """Write the vectors of SPACE into FILE (Parquet), with what it takes to know the space again; no texts, outputs or
    weights."""
    from storage.store import Store
    from storage.travel import write_file_of
    from tasks.align import check_vectors

    opened = Store(known_store(store))
    exported = write_file_of(opened, space, file, check_vectors(opened, space), subjects)
    click.echo(f"{file}: {_subjects(exported.subjects)} of space {space}\ndigest {exported.digest}")


@click.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--as", "origin", required=True, metavar="NAME", help="Whose they are: a subject x becomes NAME/x.")
@store_address_option
def import_space(file: Path, origin: str, store: str) -> None:
    """Take the vectors of a FILE that `fute export` wrote into the same space of this store.

    The space must be here, and make the same vectors of the pool's own tasks. The next run ranks them with the others;
    `fute nearest` finds them at once.
    """
    from storage.store import Store
    from storage.travel import read_file_of
    from tasks.align import check_vectors

    opened = Store(store).pull()
    known_store(opened.root)
    taken = read_file_of(opened, file, origin, lambda space: check_vectors(opened, space))
    opened.push()
    click.echo(f"{_subjects(taken.subjects)} of {origin} in space {taken.space}, {taken.known} of them known before")


def _subjects(n: int) -> str:
    return f"{n} subject{'' if n == 1 else 's'}"
