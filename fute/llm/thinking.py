"""What a reasoning model wrote for itself, taken off its answer, where a server passes it on in one text."""

from __future__ import annotations

import re
from dataclasses import replace

from fute.llm.types import Answer

# Vendors differ in brackets and words: <think>, [THINK], ◁think▷, <|begin_of_thought|>, <seed:think>.
# Of channels, the final one ends what stood before; servers that drop special tokens leave their names.
_MARK = re.compile(
    r"[<\[◁](?P<closes>/)?(?P<of>[^<>\[\]◁▷\n]{0,12}?)(?:think|thought|reason|reflect|analy[sz]|scratchpad|rationale)"
    r"[^<>\[\]◁▷\n]{0,12}[>\]▷]"
    r"|(?P<final><\|channel\|>\s*final\s*<\|message\|>|assistantfinal)"
    r"|(?P<channel><\|channel\|>\s*\w+\s*<\|message\|>|\A\s*analysis(?=[A-Z]))",
    re.IGNORECASE,
)
_ENDS = re.compile(r"/|end", re.IGNORECASE)


def after_thinking(answer: Answer) -> Answer:
    """The answer with the text behind its thinking. Its log-probabilities stay those of all tokens.

    Thinking that was cut off by the token limit leaves nothing, so that no word in it is taken for the answer.
    """
    text = answer.text
    begin, open_at = 0, None
    for mark in _MARK.finditer(text):
        # Some chat templates write the opening mark themselves, so that only the closing one comes back.
        if mark["final"] or mark["closes"] or (mark["of"] and _ENDS.search(mark["of"])):
            begin, open_at = mark.end(), None
        elif open_at is None:
            open_at = mark.start()
    if begin == 0 and open_at is None:
        return answer
    return replace(answer, text=text[begin:open_at])
