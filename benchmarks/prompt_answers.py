"""What the small network of the shared data answers to prompts: asked once for each prompt and input, then kept.

The network is the answerer of the shared folder (a fine-tuned MiniLM with one linear layer over 45 answers), read as
the tests' endpoint serves it: system text, messages and earlier answers as lines of one prompt, at most 128 tokens.
Kept are the probabilities of all 45 answers, so that any verbalizer can be applied afterwards. Where the CPU has
bfloat16 arithmetic it is used: more than twice as fast, and the answers kept say so.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from fute.fingerprint import fingerprint
from fute.llm.prompts import Template
from fute.types import Floats, TextTable

BATCH = 64
MAX_TOKENS = 128  # what the network was trained with
ANSWERING_VERSION = 1  # raised when the same prompt would be asked otherwise
WORTH_TELLING = 20.0  # seconds


@dataclass(frozen=True)
class Wording:
    """A prompt of a set. `follow_up`: asked after the answer to the template, which then stands before it."""

    id: str
    template: str
    verbalizer: Mapping[str, Sequence[str]]
    system: str | None = None
    follow_up: str | None = None
    cot: bool = False

    @property
    def calls(self) -> int:
        """Calls for one input."""
        return 1 if self.follow_up is None else 2

    @property
    def key(self) -> str:
        """Identity of what is asked; the verbalizer is applied to stored answers."""
        return fingerprint(
            template=self.template, system=self.system, follow_up=self.follow_up, version=ANSWERING_VERSION
        )


def read_wordings(path: Path) -> list[Wording]:
    return [Wording(**entry) for entry in yaml.safe_load(path.read_text(encoding="utf-8"))["prompts"]]


class Answerer:
    """Loaded on the first question, so that a run which finds all answers kept needs no network."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self._folder = folder
        self._cache = cache
        self.words: list[str] = json.loads((folder / "answers.json").read_text(encoding="utf-8"))
        self.asked = 0
        self.seconds = 0.0
        self._loaded: Any = None
        self.bfloat16 = cpu_has_bfloat16()

    def table(self, wording: Wording, inputs: TextTable) -> Floats:
        """(n, 45) probabilities of all answers; for a prompt in two steps those of the last."""
        path = self._cache / "answers" / self.precision / inputs.fingerprint / f"{wording.key}.npy"
        if path.is_file():
            return np.load(path).astype(np.float32)
        started = time.perf_counter()
        template = Template(wording.template, wording.id)
        pairs = inputs.pairs or [None] * len(inputs)
        first = [template.render(text, pair) for text, pair in zip(inputs.texts, pairs, strict=True)]
        if wording.system:
            first = [f"{wording.system}\n{prompt}" for prompt in first]
        answers = self._ask(first)
        if wording.follow_up is not None:
            said = [self.words[best] for best in answers.argmax(axis=1)]
            answers = self._ask([f"{p}\n{a}\n{wording.follow_up}" for p, a in zip(first, said, strict=True)])
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_suffix(".tmp").open("wb") as file:
            np.save(file, answers)
        path.with_suffix(".tmp").replace(path)
        self.seconds += time.perf_counter() - started
        return answers

    @property
    def precision(self) -> str:
        return "bfloat16" if self.bfloat16 else "float32"

    def _ask(self, prompts: Sequence[str]) -> Floats:
        import torch

        tokenizer, model, weight, bias = self._load()
        encoded = tokenizer(list(prompts), truncation=True, max_length=MAX_TOKENS)["input_ids"]
        order = np.argsort([-len(ids) for ids in encoded], kind="stable")  # batches of one length pad little
        probabilities = np.empty((len(prompts), len(self.words)), np.float32)
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            batch = tokenizer.pad({"input_ids": [encoded[r] for r in rows]}, return_tensors="pt")
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16):
                states = model(**batch).last_hidden_state.float()  # (rows, length, 384)
            with torch.inference_mode():
                mask = batch["attention_mask"][:, :, None].float()
                pooled = (states * mask).sum(1) / mask.sum(1)
                probabilities[rows] = (pooled @ weight.T + bias).softmax(1).numpy()
        self.asked += len(prompts)
        return probabilities

    def _load(self) -> Any:
        if self._loaded is None:
            import torch
            from safetensors.torch import load_file
            from transformers import AutoModel, AutoTokenizer

            tokenizer = AutoTokenizer.from_pretrained(self._folder)
            model = AutoModel.from_pretrained(self._folder, dtype=torch.float32).eval()
            head = load_file(self._folder / "answer_head.safetensors")
            self._loaded = tokenizer, model, head["weight"].float(), head["bias"].float()
        return self._loaded


def cpu_has_bfloat16() -> bool:
    import torch

    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def label_probabilities(answers: Floats, words: Sequence[str], verbalizer: Mapping[str, Sequence[str]]) -> Floats:
    """(n, 45) -> (n, labels): each label's words summed, shares of their total."""
    masses = np.stack(
        [answers[:, [words.index(w) for w in spellings]].sum(axis=1) for spellings in verbalizer.values()], 1
    )
    masses = np.maximum(masses, 1e-12)
    return (masses / masses.sum(axis=1, keepdims=True)).astype(np.float32)
