"""The one door by which a pretrained model comes into the process, whatever it is then used for."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from huggingface_hub import snapshot_download
from transformers import AutoTokenizer

from fute.errors import SurrogateError
from fute.seeding import seeded
from fute.surrogate.limits import fit_tokenizer
from fute.surrogate.model_files import SMALL_FILES, check_model_folder, weight_files
from fute.surrogate.source import Source


class Pretrained(NamedTuple):
    """A model as its folder holds it.

    Attributes:
        tokenizer: pads and cuts as the model needs it (`fit_tokenizer`).
        missing: names of weights that the folder lacks, and that are random now.
    """

    model: Any
    tokenizer: Any
    missing: list[str]


def open_pretrained(
    source: Source,
    auto_class: Any,
    *,
    what: str,
    needs: str,
    dtype: Any = torch.float32,
    seed: int | None = 0,
    **options: Any,
) -> Pretrained:
    """Load a model and its tokenizer: safetensors only, no code of its repository, nothing outside of its folder.

    Args:
        auto_class: AutoModel or another of its kind.
        what: what that makes of it, for messages ("a sequence classifier").
        needs: what such a folder has to hold, for messages.
        seed: of weights that the folder lacks; None: they are drawn from the generators that the caller owns.
        options: more arguments of from_pretrained.

    Raises:
        SurrogateError: it is not such a model, or its folder holds what is never loaded (`check_model_folder`).
    """
    folder = _folder(source)
    check_model_folder(folder, source.name)
    loading_options = {"local_files_only": True, "trust_remote_code": False}
    try:
        # Alone in the process: while it loads, transformers swaps functions and a default that all threads share.
        with seeded(seed) if seed is not None else nullcontext():
            model, info = auto_class.from_pretrained(
                str(folder), **loading_options, **options, use_safetensors=True, dtype=dtype, output_loading_info=True
            )
        tokenizer = fit_tokenizer(AutoTokenizer.from_pretrained(str(folder), **loading_options), model)
    except Exception as exc:  # a library's, of any kind: it follows what a stranger's files say
        raise SurrogateError(
            f"{source.name} could not be loaded as {what}; it needs {needs}. The cause: {exc}"
        ) from exc
    return Pretrained(model, tokenizer, sorted(info["missing_keys"]))


def _folder(source: Source) -> Path:
    """Where the model's files lie on this machine; fetches a hub model's, and of its weights those that are read."""
    if source.is_local:
        return Path(source.location)
    try:
        folder = Path(snapshot_download(source.location, revision=source.revision, allow_patterns=list(SMALL_FILES)))
        # Of several formats of the same weights in a repository only one is fetched.
        weights = ["model.safetensors*"]
        if (folder / "model.safetensors.index.json").is_file():
            weights = weight_files(folder, source.name)
        snapshot_download(source.location, revision=source.revision, allow_patterns=weights)
    except SurrogateError:
        raise
    except Exception as exc:
        raise SurrogateError(
            f"the files of {source.name} (revision {source.revision}) could not be had from the model hub; check the "
            f"network, or copy the model's folder to this machine and give its path. The cause: {exc}"
        ) from exc
    return folder
