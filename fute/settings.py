"""The base of every configuration class: frozen, strict about names, documented field by field."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, field_validator


class Settings(BaseModel):
    """A frozen pydantic model that refuses unknown fields; every field carries its description."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        protected_namespaces=(),
        use_attribute_docstrings=True,
        allow_inf_nan=False,  # settings end up in JSON, which has neither; and no bound finds NaN
        hide_input_in_errors=True,  # what is wrong may be a key in a wrong place
    )

    @field_validator("*")
    @classmethod
    def _text_without_nul(cls, value: Any) -> Any:
        if isinstance(value, str) and "\0" in value:
            raise ValueError("no NUL character in it")  # no path and no table takes one
        return value

    def identity(self, *, exclude: set[str] | None = None) -> dict[str, object]:
        """The settings as JSON values, for a fingerprint. `exclude` names what cannot change a result."""
        return self.model_dump(mode="json", exclude=exclude)


class MethodSettings(Settings):
    """Settings of a method, and what can be asked of it before its space is opened, which may load a surrogate."""

    takes_groups: ClassVar[bool] = False
    """Whether models are embedded faster together; how many at once says `group_size`."""

    @property
    def resamples(self) -> int:
        """Draws of the rows for the interval of a similarity; 0: none are asked for, or the method has none."""
        return 0

    def group_size(self, device_type: str) -> int:
        """Models that are embedded together, if so many are to be embedded."""
        return 1
