"""What a chat template makes of a conversation: every turn is read, or it is said that one is not."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from fute.errors import ModelError
from fute.llm.chat_template import rendered

TALK = [{"role": "system", "content": "good"}, {"role": "user", "content": "is this good"}]
LOOP = "{% for m in messages %}"
TURN = "<{{ m['role'] }}> {{ m['content'] | trim }} "
KNOWN = LOOP + "{% if m['role'] in ('user', 'assistant') %}" + TURN + "{% endif %}{% endfor %}<assistant>"


def rendering(template: str, talk: list[dict[str, str]]) -> str:
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({"<unk>": 0}, unk_token="<unk>")), unk_token="<unk>"
    )
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.chat_template = template
    return rendered(tokenizer, talk, "tiny")


def test_a_template_with_a_system_turn_is_used_as_it_is() -> None:
    assert rendering(LOOP + TURN + "{% endfor %}<assistant>", TALK) == "<system> good <user> is this good <assistant>"


@pytest.mark.parametrize(
    "template",
    [
        KNOWN,  # passes over it; that its text also occurs in the question hides nothing
        LOOP + "{% if m['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}" + TURN
        + "{% endfor %}<assistant>",
        LOOP + "{% if m['role'] == 'system' %}<fixed> {% else %}" + TURN + "{% endif %}{% endfor %}<assistant>",
    ],
)  # fmt: skip
def test_a_system_text_that_the_template_does_not_read_stands_at_the_head_of_the_question(template: str) -> None:
    assert rendering(template, TALK) == "<user> good\nis this good <assistant>"


def test_a_template_that_passes_over_other_turns_is_refused() -> None:
    reasoned = [*TALK, {"role": "assistant", "content": "because"}, {"role": "user", "content": "so"}]
    assert "because" in rendering(KNOWN, reasoned)
    for template, who in (
        ("<user> {{ messages[-1]['content'] }}", "passes over what the assistant and the user says"),
        (LOOP + "{% for p in m['content'] %}{{ p['text'] }}{% endfor %}{% endfor %}", "passes over what the user"),
        ("{{ raise_exception('not at all') }}", "cannot be filled in: not at all"),
    ):
        with pytest.raises(ModelError, match=who):
            rendering(template, reasoned if "assistant" in who else TALK)
