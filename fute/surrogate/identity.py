"""What makes a surrogate the one that it is, found out without loading it, or the libraries that would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fute.config import SurrogateConfig
from fute.errors import SurrogateError
from fute.fingerprint import digest_file
from fute.surrogate.source import Source, find_source
from fute.surrogate.vectors import READING_VERSION, has_no_model, vectors_file

# Raise this when a change of the code alters features: it is part of every surrogate's identity.
POOLING_VERSION = 2


def surrogate_identity(config: SurrogateConfig, base_dir: Path) -> dict[str, Any]:
    """Everything that can change a feature, found without loading weights. JSON values, for a fingerprint.

    Raises:
        SurrogateError: no such model, the hub cannot be reached, or the embedded model's file is not the published one.
    """
    if has_no_model(config.model):
        file = vectors_file(config.model, base_dir)
        digest = "" if file is None else digest_file(file)
        return {"revision": digest, "model": config.model.partition(":")[0], "reading": READING_VERSION}
    return identity_of(resolve_dtype(config), find_source(config.model, config.revision, base_dir))


def identity_of(config: SurrogateConfig, source: Source) -> dict[str, Any]:
    """Of settings whose dtype is decided, and files that were found."""
    return {
        "revision": source.revision,
        "layer": config.layer,
        "max_tokens": config.max_tokens,
        "dtype": config.dtype,
        "pooling": POOLING_VERSION,
    }


def resolve_dtype(config: SurrogateConfig) -> SurrogateConfig:
    """The settings with dtype auto decided by the hardware of this machine; others that get them keep to it.

    Raises:
        SurrogateError: this machine lacks the device that would decide.
    """
    if config.dtype != "auto" or has_no_model(config.model):
        return config
    from fute.surrogate.device import find_device, has_bfloat16  # torch, which alone knows the hardware

    try:
        found = "bfloat16" if has_bfloat16(find_device(config.device)) else "float32"
    except SurrogateError as exc:
        raise SurrogateError(
            f"surrogate.dtype auto is decided where the run starts, and there {exc}; or name the "
            "dtype: float32 or bfloat16"
        ) from exc
    return config.model_copy(update={"dtype": found})
