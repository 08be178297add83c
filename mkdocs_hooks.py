"""Pages of the documentation site that are made of something else, and links between the site and the repository."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from flows.cli import main
from fute.config import Study
from fute.schema_text import describe_markdown

ROOT = Path(__file__).parent
# Documents that lie outside of docs/, each with its page.
DOCUMENTS = {
    "README.md": "index.md",
    "SECURITY.md": "security.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changes.md",
    "benchmarks/README.md": "measurements.md",
}
# What a notebook uses; everything else is for those who read the code.
PYTHON = (
    "fute", "storage.open_store", "fute.types", "fute.errors", "fute.load_study", "fute.check_study",
    "fute.data.ingest", "fute.data.pool", "fute.surrogate.load", "fute.surrogate.features", "fute.methods.embedder",
    "fute.unify.frame", "fute.match.accuracy", "fute.select.ranking", "fute.evaluate.transfer_scores",
)  # fmt: skip
_LINK = re.compile(r"(\]\()([^)\s#:]+)(#[^)\s]*)?(\))")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for source, page in DOCUMENTS.items():
        if (ROOT / source).is_file():
            files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    files.append(File.generated(config, "study.md", content=describe_markdown(Study)))
    files.append(File.generated(config, "commands.md", content=commands()))
    files.append(File.generated(config, "python.md", content=python_reference()))
    linked = {target for file in files.documentation_pages() for target in _outside(file)}
    for target in sorted(linked):  # examples, results: served as they are
        files.append(File.generated(config, f"files/{target}", abs_src_path=str(ROOT / target)))
    return files


def on_page_markdown(markdown: str, page, config: MkDocsConfig, files: Files) -> str:  # type: ignore[no-untyped-def]
    """Links as the repository has them, led to where the site has the same."""
    return _LINK.sub(lambda link: f"{link[1]}{_on_site(link[2], page.file)}{link[3] or ''}{link[4]}", markdown)


def _source(file: File) -> PurePosixPath:
    """Where the repository has a page."""
    origin = {page: source for source, page in DOCUMENTS.items()}
    return PurePosixPath(origin.get(file.src_uri, f"docs/{file.src_uri}"))


def _in_repository(link: str, file: File) -> str:
    return os.path.normpath(_source(file).parent / link)


def _on_site(link: str, file: File) -> str:
    target = _in_repository(link, file)
    if target in DOCUMENTS:
        return DOCUMENTS[target]
    if target.startswith("docs/"):
        return target.removeprefix("docs/")
    return f"files/{target}" if (ROOT / target).is_file() else link


def _outside(file: File) -> set[str]:
    """Files of the repository that a page links to and the site would not have."""
    targets = {_in_repository(link[2], file) for link in _LINK.finditer(file.content_string)}
    return {t for t in targets if (ROOT / t).is_file() and t not in DOCUMENTS and not t.startswith("docs/")}


def commands() -> str:
    """The help of every command."""
    parts = ["# Commands\n\nWhat `fute COMMAND --help` says."]

    def tell(command: click.Command, path: str) -> None:
        context = click.Context(command, info_name=path, terminal_width=100)
        if isinstance(command, click.Group):
            for name in command.list_commands(context):
                tell(command.commands[name], f"{path} {name}")
        else:
            parts.append(f"## {path}\n\n```text\n{command.get_help(context)}\n```")

    tell(main, "fute")
    return "\n\n".join(parts) + "\n"


def python_reference() -> str:
    lead = "# Python\n\nThe library works in a notebook alone. `fute.open` opens a store; the rest makes what is in it."
    return "\n\n".join([lead, *(f"::: {module}" for module in PYTHON)]) + "\n"
