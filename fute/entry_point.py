"""Python functions named in a study: `package.module:function`.

A module beside the study file comes first, then the Python path. A module beside the study is loaded under a name
of its own (`_fute_<digest>.module`), so a file `numpy.py` there hides no installed package, two studies may both
have a `zoo.py`, and an edited file is loaded anew.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from fute.did_you_mean import did_you_mean, listed
from fute.errors import ConfigError, ModelError, foreign_code
from fute.fingerprint import digest_file, fingerprint

_SYS_PATH = threading.RLock()


def load_entry_point(entry: str, base_dir: Path) -> Callable[..., Any]:
    """The function that `entry` names.

    While a module beside the study is loaded, `base_dir` stands at the end of the import path, so that it can import
    its neighbours at its top (not later, inside functions).

    Raises:
        ConfigError: no such module or function, or it cannot be called.
        ModelError: the module raised while it was loaded.
    """
    module_name, _, function_name = entry.partition(":")
    file = _local_file(module_name, base_dir)
    with foreign_code(entry, f"loading {module_name}"):
        if file is not None:
            target: Any = _load_beside_study(module_name, file, base_dir)
        else:
            _find_installed(entry, module_name, base_dir)
            target = importlib.import_module(module_name)
    where = file or module_name
    for name in function_name.split("."):
        if not hasattr(target, name):
            functions = [n for n in dir(target) if not n.startswith("_") and callable(getattr(target, n))]
            hint = did_you_mean(name, functions) or "."
            raise ConfigError(f"entry point {entry}: {where} has no {name!r}{hint} It has: {listed(functions)}")
        target = getattr(target, name)
    if not callable(target):
        raise ConfigError(
            f"entry point {entry}: {function_name} in {where} is {type(target).__name__}, which cannot be called; "
            "name a function"
        )
    return target


def check_call(
    who: str, function: Callable[..., Any], given: Sequence[str], kwargs: Iterable[str], hint: str = ""
) -> None:
    """That a function takes what it is called with.

    Args:
        who: whose it is, for the message.
        given: names of the positional arguments.
        kwargs: names of the keyword arguments: the study's `kwargs`.
        hint: what else may be meant, for the message.

    Raises:
        ModelError: it takes others; with the line to write.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some built-in functions have none
        return
    try:
        signature.bind(*given, **dict.fromkeys(kwargs))
    except TypeError as exc:
        name = getattr(function, "__name__", "f")
        raise ModelError(
            f"{who}: {name}{signature} cannot be called with ({', '.join([*given, *kwargs])}): {exc}; "
            f"write `def {name}({', '.join([*given, *kwargs])})`{hint}"
        ) from exc


def entry_point_identity(entry: str, base_dir: Path) -> dict[str, str | None]:
    """What can change an entry point's answers, as far as it can be told without running it.

    Returns:
        {"entry_point": ..., "source_sha256": digest of the module's own file, None where it has none}. What the
        module imports is not covered: for that, a study has `revision`.

    Raises:
        ConfigError: no such module.
    """
    module_name = entry.partition(":")[0]
    file = _local_file(module_name, base_dir)
    if file is None:
        with foreign_code(entry, f"finding {module_name}"):
            file = _find_installed(entry, module_name, base_dir)
    return {"entry_point": entry, "source_sha256": None if file is None else digest_file(file)}


def _local_file(module_name: str, base_dir: Path) -> Path | None:
    stem = base_dir.joinpath(*module_name.split("."))
    for file in (stem.with_name(stem.name + ".py"), stem / "__init__.py"):
        if file.is_file():
            return file.resolve()
    return None


def _find_installed(entry: str, module_name: str, base_dir: Path) -> Path | None:
    """The source file of an installed module (None: built in). Imports the packages above it."""
    try:
        spec = importlib.util.find_spec(module_name)
    except ModuleNotFoundError as exc:
        # A package above the module is missing; a failing import inside such a package is another matter.
        if exc.name is None or not f"{module_name}.".startswith(f"{exc.name}."):
            raise
        spec = None
    if spec is None:
        path = f"{module_name.replace('.', '/')}.py"
        beside = sorted(p.stem for p in base_dir.glob("*.py")) if base_dir.is_dir() else []
        hint = did_you_mean(module_name, beside) or "."
        raise ConfigError(
            f"entry point {entry}: there is no module {module_name}{hint} "
            f"Looked for {path} in {base_dir.resolve()} and on the Python path"
        )
    return Path(spec.origin) if spec.origin is not None and Path(spec.origin).is_file() else None


def _load_beside_study(module_name: str, file: Path, base_dir: Path) -> ModuleType:
    alias = "_fute_" + fingerprint(folder=str(base_dir.resolve()), module=module_name, source=digest_file(file))
    with _SYS_PATH:
        if alias not in sys.modules:
            root = ModuleType(alias)
            root.__path__ = [str(base_dir.resolve())]
            sys.modules[alias] = root
        name = f"{alias}.{module_name}"
        if name in sys.modules:
            return sys.modules[name]
        with _neighbours_importable(base_dir.resolve()):
            return importlib.import_module(name)


@contextmanager
def _neighbours_importable(folder: Path) -> Iterator[None]:
    """The folder at the end of sys.path; modules found there are forgotten afterwards, for the next study's own."""
    if str(folder) in sys.path:
        yield
        return
    known, write_bytecode = set(sys.modules), sys.dont_write_bytecode
    sys.path.append(str(folder))
    # Bytecode is matched by size and second: an edit within one second would be overlooked.
    sys.dont_write_bytecode = True
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.dont_write_bytecode = write_bytecode
        sys.path.remove(str(folder))
        for name in set(sys.modules) - known:
            source = getattr(sys.modules[name], "__file__", None)
            if not name.startswith("_fute_") and source is not None and Path(source).is_relative_to(folder):
                del sys.modules[name]
