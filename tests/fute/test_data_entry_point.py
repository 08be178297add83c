import sys

import pytest

from fute.entry_point import entry_point_identity, load_entry_point
from fute.errors import ConfigError, ModelError


def test_a_module_beside_the_study_is_loaded_and_leaves_no_trace(tmp_path):
    (tmp_path / "neighbour.py").write_text("VALUE = 7\n")
    (tmp_path / "zoo.py").write_text("import neighbour\n\ndef make():\n    return neighbour.VALUE\n")
    path, modules = list(sys.path), set(sys.modules)
    assert load_entry_point("zoo:make", tmp_path)() == 7
    assert sys.path == path
    assert {name for name in set(sys.modules) - modules if not name.startswith("_fute_")} == set()
    assert not (tmp_path / "__pycache__").exists()


def test_a_module_named_as_an_installed_package_hides_nothing(tmp_path):
    import numpy

    (tmp_path / "numpy.py").write_text("def make():\n    return 'beside the study'\n")
    (tmp_path / "zoo.py").write_text("import numpy\n\ndef make():\n    return numpy.zeros(2).tolist()\n")
    assert load_entry_point("numpy:make", tmp_path)() == "beside the study"
    assert load_entry_point("zoo:make", tmp_path)() == [0.0, 0.0]
    assert sys.modules["numpy"] is numpy


def test_two_studies_may_have_modules_of_one_name(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "shared_name.py").write_text(f"NAME = {name!r}\n")
        (tmp_path / name / "zoo.py").write_text("import shared_name\n\ndef make():\n    return shared_name.NAME\n")
    assert [load_entry_point("zoo:make", tmp_path / n)() for n in ("a", "b")] == ["a", "b"]


def test_an_edited_file_is_loaded_anew_and_has_another_identity(tmp_path):
    file = tmp_path / "zoo.py"
    seen = []
    for value in (1, 2):  # within one second, and of the same size: bytecode would be stale
        file.write_text(f"def make():\n    return {value}\n")
        seen.append(
            (load_entry_point("zoo:make", tmp_path)(), entry_point_identity("zoo:make", tmp_path)["source_sha256"])
        )
    assert [value for value, _ in seen] == [1, 2]
    assert seen[0][1] != seen[1][1]


def test_packages_relative_imports_and_methods_work(tmp_path):
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "__init__.py").write_text("")
    (tmp_path / "pack" / "part.py").write_text("NUMBER = 3\n")
    (tmp_path / "pack" / "zoo.py").write_text(
        "from .part import NUMBER\n\nclass Maker:\n    @staticmethod\n    def make():\n        return NUMBER\n"
    )
    assert load_entry_point("pack.zoo:Maker.make", tmp_path)() == 3


def test_installed_modules_are_found_on_the_python_path(tmp_path):
    assert load_entry_point("json:dumps", tmp_path)([1]) == "[1]"
    assert len(entry_point_identity("json:dumps", tmp_path)["source_sha256"]) == 64
    assert entry_point_identity("sys:exit", tmp_path)["source_sha256"] is None


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("zooo:make", "did you mean 'zoo'"),
        ("zoo:mak", "did you mean 'make'"),
        ("zoo:NUMBER", "cannot be called"),
        ("no.such.thing:f", "there is no module no.such.thing"),
        ("json.nothing:f", "there is no module json.nothing"),
    ],
)
def test_what_cannot_be_found_is_named(tmp_path, entry, says):
    (tmp_path / "zoo.py").write_text("NUMBER = 1\n\ndef make():\n    return 1\n")
    with pytest.raises(ConfigError, match=says.replace(".", r"\.")):
        load_entry_point(entry, tmp_path)


def test_a_module_that_raises_is_an_error_of_the_model_and_can_be_mended(tmp_path):
    file = tmp_path / "zoo.py"
    file.write_text("import not_installed_anywhere\n")
    with pytest.raises(ModelError, match="not_installed_anywhere"):
        load_entry_point("zoo:make", tmp_path)
    file.write_text("def make():\n    return 5\n")
    assert load_entry_point("zoo:make", tmp_path)() == 5
