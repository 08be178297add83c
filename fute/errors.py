"""Every error that fute raises on purpose.

One root, so that a caller can catch all of them; each also a ValueError, LookupError or RuntimeError,
so that code which knows nothing of fute still handles them sensibly. A message says what is wrong,
which value it was, and what to do about it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class FuteError(Exception):
    """The root of all errors of this project."""


class ConfigError(FuteError, ValueError):
    """A study file is wrong: an unknown field, a wrong type, a missing file, a duplicate id."""


class DataError(FuteError, ValueError):
    """A dataset or a pool cannot be used as it is."""


class EmptyPoolError(DataError):
    """No row is left for a pool."""


class SurrogateError(FuteError, ValueError):
    """A surrogate cannot be loaded, or cannot do what is asked of it."""


class ModelError(FuteError, RuntimeError):
    """A model of the zoo could not be loaded or did not answer."""

    may_be_charged = False
    """Whether the request may have been answered, and so charged, although there is no answer to use."""


class NoAnswersError(ModelError):
    """A model was asked about many inputs, and said nothing of use to any of them. No request failed.

    Attributes:
        calls: paid for.
    """

    def __init__(self, message: str, calls: int = 0) -> None:
        super().__init__(message)
        self.calls = calls


class OutputsError(FuteError, ValueError):
    """What a model answered cannot be embedded: wrong shape, not finite, constant, too few answers."""


class MethodError(FuteError, ValueError):
    """An embedding method cannot work on what it was given."""


class SpaceError(FuteError, ValueError):
    """Vectors of different spaces were about to be compared."""


class StoreError(FuteError, RuntimeError):
    """The store holds something unreadable, or refuses what was to be written."""


class NotInStoreError(StoreError, LookupError):
    """The store has nothing under this name."""


@contextmanager
def foreign_code(model_id: str, what: str) -> Iterator[None]:
    """Run someone else's code; `what` names it in the message ("its function", "its predict_proba").

    Raises:
        ModelError: the code raised anything but an error of fute's own; the original is the cause.
    """
    try:
        yield
    except FuteError:
        raise
    except Exception as exc:
        raise ModelError(f"{model_id}: {what} raised {type(exc).__name__}: {exc}") from exc
