"""Where the labels' words stand in a text, and in what sense."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

from fute.llm.negation import is_negation, polarity, without_negation
from fute.llm.spelling import folded, plain

MOST_MENTIONS = 200
"""A text with more is no answer."""

# Scripts that put no blanks between words: a word may stand beside other letters of its text. Korean appends particles.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff"
_LETTER = rf"[^\W{_UNSPACED}]"
_HANGUL, _KATAKANA = "[\uac00-\ud7a3]", "[\u30a1-\u30fa\u30fc]"
# A vowel sign or an accent behind a letter makes it another one. `\w` leaves them out.
_MARKS = "".join(chr(c) for c in range(0x300, 0x10000) if unicodedata.category(chr(c)) in ("Mn", "Mc"))

_AFTER_LETTER = re.compile(r"\s+(?:is|or|and|und|oder|ist|et|ou|est|y|o|es)(?!\w)")
# Behind a word at the end of its clause, where the reason may follow.
_ENDS = re.compile(
    r"(?:的|です|입니다)?[^\S\n]*(?:$|\n|(?!-\w)[^\w\s])"
    r"|\s+(?:because|since|due to|weil|denn|parce que|porque|perché|потому)(?!\w)"
)
# Between two labels that are named as a choice; a word there may also begin the reason why it is not the second.
_LIST = re.compile(r"[^\w.:;!?\n()]*(?!(?:as|because|since|while|whereas|though|unlike|da|weil)\b)\w*[^\w.:;!?\n()]*")
_SAID = re.compile(
    r"(?:(?<!\w)(?:answer|label|verdict|final|overall|conclusion|therefore|boxed|antwort|réponse|respuesta|resposta"
    r"|risposta|ответ|odpowiedź|svar|antwoord|cevap|jawaban|đáp án|الإجابة|الجواب|उत्तर)(?!\w)"
    r"|答案|回答|答え|답|คำตอบ)(?:[^.!?\n]{0,60}|[^\w\n]*\n\s*)$"
)
_IS = re.compile(
    r"(?:(?<!\w)(?:is|are|was|(?<!could )(?<!might )(?<!may )be|as|seems|it's|say|choose|pick|ist|lautet|als|est|es|è|é"
    r"|это|jest|la)(?!\w)|[=→]|[-=]>|是|为|คือ)\s*(?:(?<!\w)(?:an?|the|option|choice|class|label)\s+)?[^\w\s]*\s*$"
)


@dataclass(frozen=True)
class Mention:
    """A label's word, or its denial, in a text.

    Attributes:
        begin, end: of the word with what denies it.
        label: that is meant; None where it is open which.
        word: label whose word stands there.
        sure: it was said, and does not only follow from another label being denied.
        listed: it stands beside another label as one of several ("positive or negative").
        said: behind "the answer is" or its like, and at the end of a clause.
        line: its line holds nothing else.
        alone: its clause holds nothing else.
        states: at the end of a clause that says "is".
    """

    begin: int
    end: int
    label: int | None
    word: int
    sure: bool = True
    listed: bool = False
    said: bool = False
    line: bool = False
    alone: bool = False
    states: bool = False

    @property
    def is_stated(self) -> bool:
        return self.said or self.line or self.alone or self.states


class MentionFinder:
    """
    Args:
        label_of: normalised word -> label number.
    """

    def __init__(self, label_of: Mapping[str, int], n_labels: int) -> None:
        self._label_of = {_joined(word): label for word, label in label_of.items()}
        self._pattern = _any_of(label_of)
        self._opposite = {0: 1, 1: 0} if n_labels == 2 else {}
        self._spelled: dict[int, int] = {}  # opposites that a verbalizer spells: "toxic" and "not toxic"
        for word, label in label_of.items():
            denied = label_of.get(without_negation(word) or "", label)
            if denied != label:
                self._spelled |= {denied: label, label: denied}

    def find(self, text: str) -> tuple[str, list[Mention]]:
        """The folded text, and what it mentions, in order."""
        cased = plain(text)
        text = folded(cased)
        mentions: list[Mention] = []
        for found in self._pattern.finditer(text):
            if (mention := self._mention(cased, text, found)) is not None:
                mentions.append(mention)
            if len(mentions) > MOST_MENTIONS:
                return text, []
        return text, _with_lists(text, mentions)

    def _mention(self, cased: str, text: str, found: re.Match[str]) -> Mention | None:
        word = self._label_of[_joined(found["word"])]
        little = _is_little(found["word"])
        if little and not _may_count(cased, text, found.end()):
            return None
        how, begin, end = polarity(text, *found.span())
        mention = Mention(begin, end, word, word)
        if how == "open":
            mention = replace(mention, label=None)
        elif how == "opposite":
            spelled = self._spelled.get(word)
            opposite = self._opposite.get(word) if spelled is None else spelled
            mention = replace(mention, label=opposite, sure=spelled is not None)
        ends = _ENDS.match(text, end) is not None
        before = text[max(0, begin - 80) : begin].rstrip(" \t")
        starts = not before or not (before[-1].isalnum() or before[-1] in _MARKS)
        if ends:
            line_begin, line_end = text.rfind("\n", 0, begin) + 1, text.find("\n", end)
            around = text[line_begin:begin] + text[end : line_end if line_end >= 0 else len(text)]
            mention = replace(
                mention,
                said=_SAID.search(text, max(0, begin - 80), begin) is not None,
                line=re.search(r"\w", around) is None,
                alone=starts,
                states=_IS.search(text, max(0, begin - 80), begin) is not None,
            )
        return mention if not little or _counts(cased, found, mention, starts=starts, ends=ends) else None


def _may_count(cased: str, text: str, end: int) -> bool:
    """Whether a word that has other uses is worth a closer look: most are lower case within a sentence."""
    return cased[end - 1].isupper() or _ENDS.match(text, end) is not None


def _counts(cased: str, found: re.Match[str], mention: Mention, *, starts: bool, ends: bool) -> bool:
    """Whether a word that has other uses is meant as an answer: an article, a pronoun, a "no" before a noun."""
    anchored = mention.said or mention.alone or mention.states
    letter = cased[found.start() : found.end()].strip()
    if len(letter) > 1:
        return ends
    if not letter.isupper():
        return anchored
    if ends:
        return True
    if letter == "I":
        return False
    # "A good question" begins with an article, "A is right" and "with C here" do not.
    return not starts or _AFTER_LETTER.match(cased, found.end()) is not None


def _is_little(word: str) -> bool:
    return (len(word) == 1 and word.isalpha()) or is_negation(word)


def _with_lists(text: str, mentions: list[Mention]) -> list[Mention]:
    """The mentions, those marked that stand beside another label with no more than one word between them."""
    listed = set()
    for i, (first, second) in enumerate(pairwise(mentions)):
        between = text[first.end : second.begin]
        differ = first.label != second.label and None not in (first.label, second.label)
        if differ and len(between) <= 12 and _LIST.fullmatch(between):
            listed |= {i, i + 1}
    return [
        replace(mention, listed=True, said=False, line=False, alone=False, states=False) if i in listed else mention
        for i, mention in enumerate(mentions)
    ]


def _any_of(words: Iterable[str]) -> re.Pattern[str]:
    words = tuple(words)
    highest = max((word for word in words if word.isdecimal()), key=int, default="")
    by_beginning: dict[str, list[str]] = {}
    # Longest first: of two words that begin at the same place the longer one is meant.
    for word in sorted(words, key=len, reverse=True):
        by_beginning.setdefault(_beginning(word), []).append(f"{_spelling(word, highest)}{_ending(word)}")
    either = "|".join(f"{beginning}(?:{'|'.join(endings)})" for beginning, endings in by_beginning.items())
    return re.compile(f"(?P<word>{either})(?![{_MARKS}])")


def _spelling(word: str, highest: str) -> str:
    """A pattern for the word; for a number, as it may be written of the highest one."""
    if word.isdecimal():
        return rf"{word}(?:\.0+|\s?(?:/|out of)\s?{highest})?"
    return re.escape(word).replace(r"\ ", r"\s?")


def _beginning(word: str) -> str:
    first = word[0]
    if first.isdigit():  # not the 5 of "3.5/5"
        return rf"(?<!{_LETTER})(?<!-)(?<!\d[.,+])(?<!\d/)(?<!\d/ )(?<!\d / )(?<!out of )(?<!\u2044)"
    if re.match(_HANGUL, first):
        return f"(?<!{_HANGUL})"
    if re.match(_KATAKANA, first):
        return f"(?<!{_KATAKANA})"
    return f"(?<!{_LETTER})" if re.match(_LETTER, first) else ""


def _ending(word: str) -> str:
    last = word[-1]
    if last.isdigit():  # not the 4 of "4/10" where 5 is the highest
        return rf"(?!{_LETTER})(?!-\d|[.,]\d|\s?%|\s?(?:/|out of)\s?\d)"
    if re.match(_KATAKANA, last):
        return f"(?!{_KATAKANA})"
    if re.match(_LETTER, last) is None:
        return ""
    return f"(?!{_LETTER})" + ("(?![+#])" if len(word) == 1 else "")


def _joined(word: str) -> str:
    """A word without its blanks, a number without what may follow it: 4 of "4.0" and "4 out of 5"."""
    return re.sub(r"(?<=\d)(?:\.0+|\s?/.*|\sout.*)$|\s", "", word)
