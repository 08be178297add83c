"""Settings of a method of the user's own."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fute.settings import FreeFields, MethodSettings


class PythonMethodConfig(MethodSettings):
    """A method in a file of your own: a function that makes an embedder (docs/extend.md)."""

    method: Literal["python"] = "python"
    """Says which method this is."""
    entry_point: str = Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$")
    """package.module:function, beside the study file or installed; called as function(surrogate=..., features=...,
    pool=..., seed=..., **kwargs)."""
    kwargs: FreeFields = {}
    """Passed to the function beside these."""
    revision: str = ""
    """Change it when what the function's file imports changes; the file itself is fingerprinted as well."""
