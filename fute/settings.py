"""The base of every configuration class: frozen, strict about names, documented field by field."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """A frozen pydantic model that refuses unknown fields; every field carries its description."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), use_attribute_docstrings=True)

    def identity(self, *, exclude: set[str] | None = None) -> dict[str, object]:
        """The settings as JSON values, for a fingerprint. `exclude` names what cannot change a result."""
        return self.model_dump(mode="json", exclude=exclude)
