"""The base of every configuration class: frozen, strict about names, documented field by field."""

from __future__ import annotations

import json
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from fute.secret_in import secret_in


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
    needs_surrogate: ClassVar[bool] = True
    """Whether it reads inputs through a surrogate; else its space has none."""

    takes_datasets: ClassVar[bool] = True
    """Whether datasets get an embedding."""

    @property
    def resamples(self) -> int:
        """Draws of the rows for the interval of a similarity; 0: none are asked for, or the method has none."""
        return 0

    def group_size(self, device_type: str) -> int:
        """Models that are embedded together, if so many are to be embedded."""
        return 1


class TrainedMethodSettings(MethodSettings):
    """What methods that train on a subject's rows have in common."""

    paper: ClassVar[dict[str, Any]] = {}
    """Where the papers, with their released code, differ from the defaults: filled in by `preset: paper`."""
    max_rows: int = Field(default=1000, ge=2)
    """Rows used at most, a seeded sample. Far fewer (256) retrieved much worse with tupate."""
    max_tokens: int = Field(default=64, ge=4)
    """Longer inputs are cut to this, or to what the surrogate can read where that is less."""
    max_tokens_spans: int = Field(default=256, ge=16)
    """The same for questions with their contexts, where answer spans are learned."""
    max_tokens_llm: int | None = Field(default=None, ge=4)
    """The same for the pool where a prompted LLM answered it; null: max_tokens."""
    loss: Literal["cross_entropy", "binary_cross_entropy"] = "cross_entropy"
    """Of class probabilities: cross_entropy, or the paper's binary_cross_entropy, class by class."""
    pooling: Literal["mean", "token"] = "mean"
    """What a classification or regression head reads: the mean of the states, or one token's (BERT the first, T5 and
    GPT-2 the last)."""

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, given: Any) -> Any:
        return {**cls.paper, **given} if isinstance(given, dict) and given.get("preset") == "paper" else given


def _storable(fields: dict[str, Any]) -> dict[str, Any]:
    try:
        json.dumps(fields, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as exc:
        raise ValueError(f"holds what JSON cannot hold, and settings are stored as JSON ({exc})") from exc
    if (where := secret_in(fields)) is not None:
        raise ValueError(
            f"{where} looks like a key or a password, and what stands in a study is stored and shown; take it out, and "
            "let an environment variable hold it (api_key_env of an endpoint names one)"
        )
    return fields


FreeFields = Annotated[dict[str, Any], AfterValidator(_storable)]
"""Fields that fute does not know: arguments of functions, fields of requests. They are stored and shown like all other
settings, so they hold what JSON holds, and no key."""
