"""The candidates of a selection of prompts: asked about some texts at a time, and counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

import numpy as np

from fute.config import EndpointConfig, PromptConfig, PromptModel
from fute.errors import ConfigError, ModelError
from fute.llm.budget import BudgetExhausted, cost_usd
from fute.llm.providers import PROVIDERS
from fute.llm.types import Completer
from fute.models.calibration import marginal_bias
from fute.models.prompted import PromptedModel
from fute.select.candidates import Candidates, Doubles, Integers
from fute.types import Outputs, TextTable
from tasks.endpoints import prompted_model
from tasks.run import Failure, Run
from tasks.study import StudyParts
from tasks.tally import Stop, Tally

T = TypeVar("T")


def shared_labels(prompts: Sequence[PromptConfig]) -> tuple[str, ...]:
    """The labels that all these prompts answer with, in the first's order.

    Raises:
        ConfigError: they have different labels, or free text for an answer.
    """
    for prompt in prompts:
        if prompt.answer == "text":
            raise ConfigError(
                f"prompt {prompt.id} answers in free text, and only prompts with labels can be ranked; "
                "choose among others (--prompt names them)"
            )
    label_names = tuple(prompts[0].verbalizer)
    for prompt in prompts:
        if set(prompt.verbalizer) != set(label_names):
            raise ConfigError(
                f"prompt {prompt.id} answers {', '.join(prompt.verbalizer)}, and prompt {prompts[0].id} "
                f"{', '.join(label_names)}; choose among prompts for one task (--prompt names them)"
            )
    return label_names


class Panel:
    """The candidates, and what was asked of them in this run.

    Attributes:
        asked: (m, n) which texts each was asked about.
        paid: (m, 3) calls, tokens in and tokens out that were paid for now.

    Raises:
        ConfigError: prompts with different labels, or with free text for an answer; before anything is paid for.
    """

    def __init__(self, run: Run, models: Sequence[PromptModel], parts: StudyParts, inputs: TextTable) -> None:
        self._inputs = inputs
        self.configs = list(models)
        self.endpoints: list[EndpointConfig] = [parts.endpoints[str(m.endpoint)] for m in models]
        prompts: list[PromptConfig] = [parts.prompts[str(m.prompt)] for m in models]
        self.label_names = shared_labels(prompts)
        self._stop = Stop()
        self._biases: dict[int, Doubles] = {}
        self._tallies: list[Tally] = []
        self.models: list[PromptedModel] = [prompted_model(run, m, parts, around=self._tallied) for m in models]
        self._labels = [tuple(prompt.verbalizer) for prompt in prompts]
        self._calls = np.array([(2 if p.cot else 1) * m.samples for p, m in zip(prompts, models, strict=True)])
        self.asked = np.zeros((len(models), len(inputs)), bool)
        self.failures: list[Failure] = []
        for model in self.models:
            # Of all texts, and now: of the few texts of a round it says nothing whether most can be asked about.
            self._unless_failed(model, lambda model: model.requests(inputs), None)

    @property
    def paid(self) -> Integers:
        return np.stack([tally.paid for tally in self._tallies])

    def spent(self) -> str:
        """What was paid for up to now, in words."""
        calls, tokens_in, tokens_out = self.paid.sum(axis=0).tolist()
        prices = [cost_usd(e, int(p[1]), int(p[2])) for e, p in zip(self.endpoints, self.paid, strict=True)]
        usd = "" if None in prices else f", ${sum(p for p in prices if p is not None):.4f}"
        return f"{calls:,} calls, {tokens_in + tokens_out:,} tokens{usd}"

    def _tallied(self, client: Completer) -> Completer:
        self._tallies.append(Tally(client, self._stop))
        return self._tallies[-1]

    @property
    def blank(self) -> Candidates:
        shape = (len(self.models), len(self._inputs))
        ids = tuple(model.id for model in self.models)
        empty = np.zeros((*shape, len(self.label_names)))
        return Candidates(ids, empty, np.zeros(shape, bool), self.label_names, self._calls)

    def ask(self, members: Integers, rows: Integers) -> Candidates:
        """Their answers, of the endpoints at the same time and of one endpoint's candidates in turn.

        A candidate that fails has no answers; it is listed, and stops no other. A used-up budget stops all.

        Raises:
            BudgetExhausted: with what this selection has spent until then.
        """
        found = self._each(members, rows, self._answers)
        listed = members.tolist()
        return Candidates.of(
            [self.models[m].id for m in listed],
            [found[m] for m in listed],
            [int(self._calls[m]) for m in listed],
            label_names=self.label_names,
        )

    def biases(self, candidates: Candidates) -> Doubles:
        """(m, c) what calibrates all candidates' answers, as the study sets it for each; zeros for those without.

        Args:
            candidates: with all that was answered so far: the marginal is taken over what each has answered.
        """
        found = np.zeros((len(self.models), len(self.label_names)))
        for member, model in enumerate(self.models):
            if member in self._biases:
                found[member] = self._biases[member]
            elif model.calibration == "marginal":
                bias = marginal_bias(candidates.probabilities[member][candidates.answered[member]])
                found[member] = 0.0 if bias is None else bias
        return found

    def calibrated(self, candidates: Candidates) -> Candidates:
        """All candidates with their answers calibrated."""
        biases = self.biases(candidates)
        return candidates.calibrated(biases) if biases.any() else candidates

    def perplexities(self) -> Doubles:
        """(m, n) how improbable each candidate's prompt reads with each text; NaN for a candidate that failed.

        Raises:
            ModelError: an endpoint does not tell how probable a prompt is; before anything is paid for.
        """
        able = ", ".join(name for name, provider in PROVIDERS.items() if provider.echoes)
        for model, endpoint in zip(self.models, self.endpoints, strict=True):
            if not PROVIDERS[endpoint.api].echoes:
                raise ModelError(
                    f"method spell: {model.id} is asked over api {endpoint.api}, which does not tell how probable a "
                    f"prompt is; use one of: {able}, or another method"
                )
        shape = (len(self.models), len(self._inputs))
        found = self._each(np.arange(shape[0]), np.arange(shape[1]), self._perplexities)
        return np.stack([found[member] for member in range(shape[0])])

    def _each(self, members: Integers, rows: Integers, ask: Callable[[int, TextTable], T]) -> dict[int, T]:
        table = self._inputs.take(rows)
        self.asked[np.ix_(members, rows)] = True
        groups: dict[str, list[int]] = {}
        for member in members.tolist():
            groups.setdefault(self.endpoints[member].id, []).append(member)
        found: dict[int, T] = {}

        def work(group: list[int]) -> None:
            for member in group:
                try:
                    found[member] = ask(member, table)
                except BaseException as exc:
                    self._stop.tell(exc)
                    raise

        with ThreadPoolExecutor(max(1, len(groups)), thread_name_prefix="endpoint") as pool:
            futures = [pool.submit(copy_context().run, work, group) for group in groups.values()]
        # All have ended here: what was spent is final.
        if isinstance(self._stop.reason, BudgetExhausted):
            raise BudgetExhausted(f"{self._stop.reason}. Spent by this selection until then: {self.spent()}")
        if self._stop.reason is not None:
            raise self._stop.reason
        for future in futures:
            future.result()
        return found

    def _answers(self, member: int, table: TextTable) -> Outputs:
        nothing = np.zeros((len(table), len(self.label_names)), np.float32)
        silence = Outputs("probabilities", nothing, self.label_names, np.zeros(len(table), bool))

        def ask(model: PromptedModel) -> Outputs:
            if model.content_free and member not in self._biases:
                self._biases[member] = self._in_order(member, model.content_free_bias())
            return model.outputs(table, part_of=len(self._inputs))

        return self._unless_failed(self.models[member], ask, silence)

    def _in_order(self, member: int, bias: Doubles) -> Doubles:
        """In the order of the panel's labels, which need not be that of the prompt's own."""
        return bias[[self._labels[member].index(name) for name in self.label_names]]

    def _perplexities(self, member: int, table: TextTable) -> Doubles:
        unknown = np.full(len(table), np.nan)
        return self._unless_failed(
            self.models[member], lambda model: model.perplexities(table).astype(np.float64), unknown
        )

    def _unless_failed(self, model: PromptedModel, ask: Callable[[PromptedModel], T], nothing: T) -> T:
        if any(failure.subject == model.id for failure in self.failures):
            return nothing  # what failed for good in one round is not tried again in the next
        try:
            return ask(model)
        except BudgetExhausted:
            raise
        except ModelError as exc:
            self.failures.append(Failure(subject=model.id, stage="select", reason=str(exc)))
            return nothing
