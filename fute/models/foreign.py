"""Code that is not ours: whatever it raises becomes a ModelError that names the model and keeps the cause."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fute.errors import FuteError, ModelError


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
