"""What a model's folder may hold: plain data of its own, and weights that are safetensors files."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel

from fute.config import SurrogateConfig
from fute.errors import FuteError, SurrogateError
from fute.surrogate.load import load_surrogate
from fute.surrogate.model_files import INDEX, WEIGHTS, check_model_folder
from fute.surrogate.pretrained import open_pretrained
from fute.surrogate.source import find_source

from .tiny_surrogates import save_tiny


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny("bert", tmp_path_factory.mktemp("saved") / "model")


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "model"))


class Payload:
    """A pickle that tells that it was opened."""

    def __init__(self, told: Path) -> None:
        self.told = told

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return os.mkdir, (str(self.told),)


def sharded(folder: Path, *names: str) -> Path:
    """The same weights in shards that an index names."""
    tensors = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    parts: dict[str, dict[str, Any]] = {name: {} for name in names}
    weight_map = {}
    for i, (key, tensor) in enumerate(tensors.items()):
        name = names[i % len(names)]
        parts[name][key] = tensor
        weight_map[key] = name
    for name, part in parts.items():
        save_file(part, folder / name, metadata={"format": "pt"})
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def opened(folder: Path) -> Any:
    source = find_source(str(folder), None, folder.parent)
    return open_pretrained(source, AutoModel, what="a backbone", needs="files").model


def edit(file: Path, **fields: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def test_shards_open_to_the_same_weights_and_are_part_of_the_identity(folder: Path) -> None:
    whole = opened(folder).state_dict()
    in_parts = sharded(folder, "a.safetensors", "b.safetensors")
    for key, tensor in opened(in_parts).state_dict().items():
        assert torch.equal(tensor, whole[key])
    before = find_source(str(in_parts), None, folder.parent).revision
    edit(in_parts / INDEX, metadata={"note": "another"})
    assert find_source(str(in_parts), None, folder.parent).revision != before


@pytest.mark.parametrize("name", ["../outside.safetensors", "/etc/outside.safetensors", "sub/x.safetensors",
                                  "pytorch_model.bin", "x.safetensors.bin", "..", "", None, 7, ["x"]])  # fmt: skip
@pytest.mark.parametrize("beside", [True, False])
def test_an_index_names_safetensors_files_beside_it_and_nothing_else(folder: Path, name: Any, beside: bool) -> None:
    if not beside:
        sharded(folder, "a.safetensors", "b.safetensors")
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": {"embeddings.word": name}}))
    with pytest.raises(SurrogateError, match="may only name .safetensors files that lie beside it"):
        check_model_folder(folder, "m")


def test_a_pickle_under_another_name_is_not_opened(folder: Path, tmp_path: Path) -> None:
    told = tmp_path / "told"
    for name in (WEIGHTS, "a.safetensors"):
        if name != WEIGHTS:
            sharded(folder, "a.safetensors")
        with (folder / name).open("wb") as file:
            pickle.dump(Payload(told), file)
        with pytest.raises(SurrogateError, match=f"{name} is no safetensors file, whatever its name says"):
            opened(folder)
        torch.save({"w": torch.zeros(1)}, folder / name)
        with pytest.raises(SurrogateError, match="no safetensors file"):
            opened(folder)
        shutil.rmtree(folder)
        save_tiny("bert", folder)
    assert not told.exists()


def test_torn_weights_are_refused(folder: Path) -> None:
    whole = (folder / WEIGHTS).read_bytes()
    for kept in (0, 7, 100, len(whole) - 1):
        (folder / WEIGHTS).write_bytes(whole[:kept])
        with pytest.raises(SurrogateError, match="is no safetensors file"):
            check_model_folder(folder, "m")


@pytest.mark.parametrize("name", [WEIGHTS, "config.json", "tokenizer.json"])
def test_a_link_out_of_the_folder_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    shutil.move(folder / name, tmp_path / "elsewhere")
    (folder / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SurrogateError, match=f"{name} is a link out of the folder"):
        find_source("model", None, tmp_path)
    with pytest.raises(SurrogateError, match="link out of the folder"):
        check_model_folder(folder, "m")


def test_a_folder_that_is_a_link_and_a_snapshot_of_the_hubs_cache_open(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    first = find_source("link", None, tmp_path).revision
    repository = tmp_path / "models--someone--tiny"
    snapshot = repository / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    shutil.copytree(folder, repository / "blobs")
    for file in folder.iterdir():
        (snapshot / file.name).symlink_to(Path("../../blobs") / file.name)
    assert find_source(str(snapshot), None, tmp_path).revision == first
    assert load_surrogate(SurrogateConfig(model=str(snapshot), max_tokens=24, device="cpu"), tmp_path).width == 32


def test_configurations_that_name_code_or_weights_are_refused(folder: Path) -> None:
    for fields, message in (
        ({"transformers_weights": "../other.safetensors"}, "transformers_weights"),
        ({"attn_implementation": "someone/kernel"}, "names the kernel 'someone/kernel'"),
        ({"_attn_implementation": "someone/kernel@main:run"}, "names the kernel"),
        ({"attn_implementation": {"": "eager", "text_config": "someone/kernel"}}, "names the kernel"),
        ({"text_config": {"attn_implementation": "someone/kernel"}}, "names the kernel"),
    ):
        kept = (folder / "config.json").read_text()
        edit(folder / "config.json", **fields)
        with pytest.raises(SurrogateError, match=message):
            opened(folder)
        (folder / "config.json").write_text(kept)
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "/somewhere/else"}')
    with pytest.raises(SurrogateError, match="is an adapter, .* merge the two"):
        opened(folder)


def test_code_of_a_repository_is_never_run(folder: Path, tmp_path: Path) -> None:
    told = tmp_path / "told"
    (folder / "code.py").write_text(f"import os\nos.mkdir({str(told)!r})\nclass Model: pass\nclass Config: pass\n")
    names = {"AutoConfig": "code.Config", "AutoModel": "code.Model", "AutoTokenizer": ["code.Model", None]}
    edit(folder / "config.json", auto_map=names)
    edit(folder / "tokenizer_config.json", auto_map=names)
    opened(folder)  # the family is known, so that its own code does
    edit(folder / "config.json", auto_map=names, model_type="unheard-of")
    with pytest.raises(SurrogateError):
        opened(folder)
    assert not told.exists()


def test_all_that_decides_answers_is_in_the_identity(folder: Path) -> None:
    known = {find_source(str(folder), None, folder.parent).revision}
    for name in ("generation_config.json", "chat_template.jinja", "additional_chat_templates/tools.jinja",
                 "tokenizer.json", "config.json", "other.safetensors", "tekken.json", "merges.txt"):  # fmt: skip
        file = folder / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(file.read_text() + "\n" if file.exists() else "{}")
        revision = find_source(str(folder), None, folder.parent).revision
        assert revision not in known, name
        known.add(revision)
    (folder / "trainer_state.json").write_text("{}")
    assert find_source(str(folder), None, folder.parent).revision in known


@pytest.mark.parametrize("content", ["[]", "{", '"x"', "[" * 100_000, "\xff"])
def test_a_configuration_that_is_no_object_is_named(folder: Path, content: str) -> None:
    for name in ("config.json", "tokenizer_config.json", INDEX):
        kept = (folder / name).read_bytes() if (folder / name).exists() else None
        (folder / name).write_text(content, encoding="latin-1")
        with pytest.raises(FuteError, match=name):
            check_model_folder(folder, "m")
        if kept is None:
            (folder / name).unlink()
        else:
            (folder / name).write_bytes(kept)
