"""The files that a pretrained model is loaded from: which they are, and that each of them is what it should be.

transformers reads whatever a folder's own files name: shards that an index lists, a kernel, another model's weights
under an adapter. So a folder is looked through before it is opened, and what is not a safetensors file or plain data of
this very folder is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any

from safetensors import SafetensorError, safe_open

from fute.errors import SurrogateError

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"

SMALL_FILES = (
    "config.json",
    "generation_config.json",
    "adapter_config.json",
    INDEX,
    "tokenizer*",
    "vocab*",
    "merges*.txt",
    "*.model",
    "*.tiktoken",
    "*.codes",
    "tekken.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template*",
    "additional_chat_templates/*.jinja",
)
DECIDING_FILES = (*SMALL_FILES, "*.safetensors")
"""What decides what a model computes; a README or an optimiser state beside it does not."""


def deciding_files(folder: Path, name: str) -> list[Path]:
    """The files of a folder that decide what its model computes, by name.

    Args:
        name: the model's, for messages.

    Raises:
        SurrogateError: one of them is a link that leads out of the folder.
    """
    found = sorted({file for pattern in DECIDING_FILES for file in folder.glob(pattern) if file.is_file()})
    for file in found:
        _require_inside(folder, file, name)
    return found


def check_model_folder(folder: Path, name: str) -> None:
    """That everything which opening a model would read is plain data of its folder.

    Raises:
        SurrogateError: no safetensors weights, weights that are something else, a file outside of the folder, an
            adapter without its base model, or a configuration that names code or weights.
    """
    deciding_files(folder, name)
    if (folder / "adapter_config.json").is_file():
        raise SurrogateError(
            f"{name} is an adapter, whose base model lies elsewhere; merge the two (merge_and_unload and "
            "save_pretrained of the package peft) and name the merged folder"
        )
    _check_config(_read_json(folder / "config.json", name), name)
    if (settings := folder / "tokenizer_config.json").is_file():
        for file in _read_json(settings, name).get("fast_tokenizer_files") or ():
            _require_plain_name(file, f"{name}: tokenizer_config.json", ".json")
    for file in weight_files(folder, name):
        _check_weights(folder, file, name)


def weight_files(folder: Path, name: str) -> list[str]:
    """The names of the files that hold a model's weights, as its folder says.

    Raises:
        SurrogateError: there are none, or the index lists something else than safetensors files beside it.
    """
    shards: set[str] = set()
    if (index := folder / INDEX).is_file():
        listed = _read_json(index, name).get("weight_map")
        if not isinstance(listed, dict) or not listed:
            raise SurrogateError(f"{name}: {INDEX} lists no weights; save the model again with save_pretrained")
        for shard in listed.values():
            _require_plain_name(shard, f"{name}: {INDEX}", ".safetensors")
        shards = set(listed.values())
    if (folder / WEIGHTS).is_file():  # it goes before an index
        return [WEIGHTS]
    if not shards:
        raise SurrogateError(
            f"{name} holds neither {WEIGHTS} nor {INDEX}; weights are read from safetensors files only "
            "(save_pretrained writes them)"
        )
    return sorted(shards)


def _check_weights(folder: Path, file: str, name: str) -> None:
    path = folder / file
    if not path.is_file():
        raise SurrogateError(f"{name}: {INDEX} lists {file}, which is not there; copy the whole folder")
    _require_inside(folder, path, name)
    try:
        with safe_open(path, framework="np"):  # reads the header, and compares it with the file's length
            pass
    except (SafetensorError, OSError) as exc:
        raise SurrogateError(
            f"{name}: {file} is no safetensors file, whatever its name says ({exc}); save the model again with "
            "save_pretrained"
        ) from exc


def _check_config(config: dict[str, Any], name: str) -> None:
    if "transformers_weights" in config:
        raise SurrogateError(
            f"{name}: config.json names a weights file of its own (transformers_weights), which is not supported; take "
            f"the line out and call the file {WEIGHTS}"
        )
    for key, value in _entries(config):
        # transformers takes such a value for a repository, and would fetch and run the kernel in it.
        if key.endswith("_implementation") and isinstance(value, str) and "/" in value:
            raise SurrogateError(
                f"{name}: config.json names the kernel {value!r} ({key}), which is code from elsewhere and never run; "
                "take the line out"
            )


def _entries(value: Any) -> Iterator[tuple[str, Any]]:
    """Every key of nested objects with what stands under it."""
    if isinstance(value, list):
        for inner in value:
            yield from _entries(inner)
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield key, inner
            if key.endswith("_implementation") and isinstance(inner, dict):  # one for each part of the model
                yield from ((key, part) for part in inner.values())
            yield from _entries(inner)


def _require_plain_name(file: object, where: str, ending: str) -> None:
    if not isinstance(file, str) or PurePath(file).name != file or "\\" in file or not file.endswith(ending):
        raise SurrogateError(
            f"{where} names {file!r}; it may only name {ending} files that lie beside it, so save the model again with "
            "save_pretrained"
        )


def _require_inside(folder: Path, file: Path, name: str) -> None:
    root = folder.resolve()
    # The hub's cache keeps a repository's files once, and its snapshots link to them.
    blobs = root.parents[1] / "blobs" if root.parent.name == "snapshots" else root
    real = file.resolve()
    if not (real.is_relative_to(root) or real.is_relative_to(blobs)):
        raise SurrogateError(
            f"{name}: {file.relative_to(folder)} is a link out of the folder; put the file itself there, or name the "
            "folder where it lies"
        )


def _read_json(file: Path, name: str) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as exc:
        raise SurrogateError(f"{name}: {file.name} cannot be read: {exc}") from exc
    if not isinstance(content, dict):
        raise SurrogateError(f"{name}: {file.name} holds no JSON object")
    return content
