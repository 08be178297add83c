"""The candidates of a selection of prompts: asked about some texts at a time, and counted."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from fute.config import EndpointConfig, PromptConfig, PromptModel
from fute.errors import ConfigError, ModelError
from fute.llm.budget import BudgetExhausted
from fute.models.prompted import PromptedModel
from fute.select.candidates import Candidates, Integers
from fute.types import Outputs, TextTable
from tasks.endpoints import prompted_model
from tasks.run import Failure, Run
from tasks.study import StudyParts


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
        for prompt in prompts:
            if prompt.answer == "text":
                raise ConfigError(
                    f"prompt {prompt.id} answers in free text, and only prompts with labels can be ranked; "
                    "choose among others (--prompt names them)"
                )
        self.models: list[PromptedModel] = [prompted_model(run, m, parts) for m in models]
        self.label_names = tuple(prompts[0].verbalizer)
        for prompt in prompts:
            if set(prompt.verbalizer) != set(self.label_names):
                raise ConfigError(
                    f"prompt {prompt.id} answers {', '.join(prompt.verbalizer)}, and prompt {prompts[0].id} "
                    f"{', '.join(self.label_names)}; choose among prompts for one task (--prompt names them)"
                )
        self._calls = np.array([(2 if p.cot else 1) * m.samples for p, m in zip(prompts, models, strict=True)])
        self.asked = np.zeros((len(models), len(inputs)), bool)
        self.failures: list[Failure] = []
        self.paid = np.zeros((len(models), 3), np.int64)

    @property
    def blank(self) -> Candidates:
        shape = (len(self.models), len(self._inputs))
        ids = tuple(model.id for model in self.models)
        empty = np.zeros((*shape, len(self.label_names)))
        return Candidates(ids, empty, np.zeros(shape, bool), self.label_names, self._calls)

    def ask(self, members: Integers, rows: Integers) -> Candidates:
        """Their answers, of the endpoints at the same time and of one endpoint's candidates in turn.

        A candidate that fails has no answers; it is listed, and stops no other. A used-up budget stops all.
        """
        table = self._inputs.take(rows)
        self.asked[np.ix_(members, rows)] = True
        groups: dict[str, list[int]] = {}
        for member in members.tolist():
            groups.setdefault(self.endpoints[member].id, []).append(member)
        found: dict[int, Outputs] = {}

        def work(group: list[int]) -> None:
            for member in group:
                found[member] = self._answers(member, table)

        with ThreadPoolExecutor(max(1, len(groups)), thread_name_prefix="endpoint") as pool:
            for future in [pool.submit(work, group) for group in groups.values()]:
                future.result()
        listed = members.tolist()
        return Candidates.of(
            [self.models[m].id for m in listed], [found[m] for m in listed], [int(self._calls[m]) for m in listed],
            label_names=self.label_names,
        )  # fmt: skip

    def _answers(self, member: int, table: TextTable) -> Outputs:
        model = self.models[member]
        nothing = np.zeros((len(table), len(self.label_names)), np.float32)
        silence = Outputs("probabilities", nothing, self.label_names, np.zeros(len(table), bool))
        if any(failure.subject == model.id for failure in self.failures):
            return silence  # what failed for good in one round is not tried again in the next
        try:
            outputs = model.outputs(table)
        except BudgetExhausted:
            raise
        except ModelError as exc:
            self.failures.append(Failure(subject=model.id, stage="select", reason=str(exc)))
            return silence
        counted = ("calls", "tokens_in", "tokens_out")
        self.paid[member] += [int(outputs.details.get(name, 0)) for name in counted]
        return outputs
