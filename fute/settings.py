"""The base of every configuration class: frozen, strict about names, documented field by field."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict

from fute.secret_in import secret_in


class Settings(BaseModel):
    """A frozen pydantic model that refuses unknown fields; every field carries its description."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        protected_namespaces=(),
        use_attribute_docstrings=True,
        allow_inf_nan=False,  # no setting means anything there, and sockets, sums and JSON each fail in their own way
        hide_input_in_errors=True,  # what is wrong may be a key in a wrong place
    )

    def identity(self, *, exclude: set[str] | None = None) -> dict[str, object]:
        """The settings as JSON values, for a fingerprint. `exclude` names what cannot change a result."""
        return self.model_dump(mode="json", exclude=exclude)


def _without_secrets(values: dict[str, Any]) -> dict[str, Any]:
    if (where := secret_in(values)) is not None:
        raise ValueError(
            f"{where} looks like a key or a password, and what stands in a study is stored and shown; take it out, and "
            "let an environment variable hold it (api_key_env of an endpoint names one)"
        )
    return values


Free = Annotated[dict[str, Any], AfterValidator(_without_secrets)]
"""Values of someone else's choice, handed on as they are."""
