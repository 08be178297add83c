"""One spelling for what is the same word: an answer and a verbalizer's words are compared in it."""

from __future__ import annotations

import re
import unicodedata

MOST_CHARACTERS = 8_000
"""Of an answer so much is looked at, half of it from either end: the answer stands at the beginning or at the end."""

_ALIKE = str.maketrans(
    {"’": "'", "‘": "'", "ʼ": "'", "‐": "-", "‑": "-", "−": "-", "İ": "I", "ı": "i"}
    | dict.fromkeys('*`"“”„«»「」『』')  # quotes and emphasis
)
# Marks of direction, joiners, selectors of a form: nobody sees them.
_UNSEEN = re.compile("[\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]")
_QUOTE = re.compile(r"(?<!\w)'|'(?!\w)")
_HYPHEN = re.compile(r"(?<=[^\W\d_])-(?=[^\W\d_])|_")
_AROUND = frozenset(" \t\r\n'.,:;!?()[]{}<>|=~^\\/→")
_BULLET = re.compile(r"[-+#]+\s+|#+|\+(?=\d)")


def looked_at(text: str) -> str:
    """The two ends of a long text."""
    half = MOST_CHARACTERS // 2
    return text if len(text) <= MOST_CHARACTERS else f"{text[:half]}\n{text[-half:]}"


def plain(text: str) -> str:
    """A text with its case, without what does not matter: forms of letters (NFKC), quotes, emphasis, hyphens between
    letters. As long as its `folded` form, so that both can be looked at by the same positions."""
    if not text.isascii():
        text = looked_at(unicodedata.normalize("NFKC", text))  # some characters become eighteen
    text = _HYPHEN.sub(" ", _QUOTE.sub("", _UNSEEN.sub("", text.translate(_ALIKE))))
    if len(text.casefold()) != len(text):
        text = "".join(c if len(c.casefold()) == 1 else c.casefold() for c in text)
    return text


def folded(text: str) -> str:
    """A plain text without its case."""
    return text.casefold()


def normal(text: str) -> str:
    """A word without what does not matter: case, forms of letters, blanks, quotes and punctuation around it."""
    word = " ".join(folded(plain(text)).split())
    begin, end = 0, len(word)
    while begin < end and _is_around(word[begin]):
        begin += 1
    while end > begin and _is_around(word[end - 1]):
        end -= 1
    bullet = _BULLET.match(word, begin, end)
    return word[bullet.end() if bullet else begin : end]


def _is_around(character: str) -> bool:
    return character in _AROUND or (not character.isascii() and unicodedata.category(character)[0] in "PZ")
