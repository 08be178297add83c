"""Whether what stands around a word turns it into its opposite, or leaves open whether it is meant."""

from __future__ import annotations

import re
from typing import Literal

Polarity = Literal["meant", "opposite", "open"]

# A language is known by its words for "not". Those of scripts without blanks may stand within a run of letters.
_NEGATION = (
    r"(?:(?<!\w)(?:not(?! (?:only|just|merely)\b)|non|no(?! (?:doubt|question)\b)|never|neither|nor|weder|cannot"
    r"|\w{1,9}n't|rather than|instead of|opposed to|anything but|far from|hardly"
    r"|nicht(?! nur\b)|kein\w{0,2}|nein|pas(?! seulement\b)|ni|não|não|nem|не|нет|ни|nie|ne|niet|geen|inte|ikke|icke|ei"
    r"|không|tidak|bukan|ليس\w?|غير|لا|לא|δεν|μη)(?!\w)|不(?!仅|但)|非|没有|無|无|ไม่)"
)
# What may stand between a negation and its word without changing that the word is what is denied.
_BETWEEN = (
    r"(?:a|an|the|any|at all|really|actually|considered|classified|labell?ed|as|be|to|being|is|seem|appear|look|sound"
    r"|ein\w{0,2}|une?|uma?|un[oa]|es|est|é|è|это|είναι|jest|är|er|je|phải|إ?ن?ه|是|为|一条|一个|ใช่|เป็น)"
)
_BEFORE = re.compile(rf"{_NEGATION}(?:\s*(?<!\w){_BETWEEN}(?!\w)|\s*[是为]|\s*一[条个]|ใช่|เป็น){{0,3}}\s*\(?$")
# Where it follows, behind particles, as in Japanese, Korean, Hindi and Turkish; and "spam: no". か asks.
_AFTER = re.compile(
    r"[\sぁ-おき-ん가-힣]{0,6}?(?:ない|ません|아니|아닙|아님|아닌|않|नहीं|değil|نیست)\w*"
    r"|\s*[:=]\s*(?:no|false|nein|non|нет|否)(?!\w)"
)
# "spam: 0.2", "spam is unlikely", "spam risk: low": not what the answer is, and not its opposite.
_WEIGHED = re.compile(
    r"\s*(?:[:=]|->|→)\s*[-+]?\d|\s+[-–—]\s+\d+\s?%"
    r"|\s+(?:is|are|was|does|seems|appears)(?:n't|\s+(?:not|unlikely|wrong|incorrect|absent|ruled out))(?!\w)"
    r"|\s+(?:likelihood|probability|score|risk)(?:\s*[:=]|\s+(?:is|of)(?!\w))"
)
# Within two words before it: "free of any spam", "without being negative". Not "without a doubt".
_NONE_OF = re.compile(
    r"(?<!\w)(?:free (?:of|from)|lack(?:s|ed|ing)?(?: of)?|devoid of|absence of|without|nothing|sans|rien de|ohne"
    r"|nichts|sin|nada|sem|senza|niente di)"
    r"(?!(?: \w+){0,2} (?:doubt|question|hesitation|doute|zweifel|duda|dúvida|dubbio))"
    r"(?:\s+\w+){0,2}\s*$"
)
_DOUBT = re.compile(
    rf"{_NEGATION}|(?<!\w)(?:whether|if|unless|unclear|unsure|unlikely|improbable|doubtful|(?<!no )doubt (?:that|if)"
    r"|hard|difficult|schwer|difficile|difícil|трудно|нельзя|ob|wenn|si|если|ли)(?!\w)|是否|如果"
)
_CLAUSE = re.compile(
    r"[.;:!?\n()\[\]{}|—–、。।؛،؟]|\s-\s|,(?!\s*(?:that|dass|что|że|hogy)\b)"
    r"|(?<!\w)(?:but|and|so|because|since|although|though|therefore|however|while|sondern|aber|weil|mais|pero|sino|mas"
    r"|но|а)(?!\w)"
)
_SENTENCE_END = re.compile(r"[.!?\n。؟]")

NEAR = 60
"""Characters before a word that are searched for a negation of it."""
FAR = 200
"""Characters before a word that are searched for the beginning of its clause."""


def is_negation(word: str) -> bool:
    return re.fullmatch(_NEGATION, word) is not None


def without_negation(word: str) -> str | None:
    """What a word like "not toxic" denies; None where it denies nothing."""
    found = re.match(_NEGATION, word)
    return word[found.end() :].strip() or None if found else None


def polarity(text: str, begin: int, end: int) -> tuple[Polarity, int, int]:
    """How the word at these positions of a folded text is meant, and its bounds together with its negation.

    Directly beside the word a negation makes it the opposite. Further off in its clause it may deny something else
    ("I would not say that it is"), so that it is open what is meant; as after "whether" or "free of", in a question, or
    where the word is weighed ("positive: 0.2", "positive is unlikely").
    """
    before = text[max(0, begin - NEAR) : begin]
    turned = False
    if near := _BEFORE.search(before):
        begin -= len(before) - near.start()
        turned = True
    if after := _AFTER.match(text, end):
        end = after.end()
        turned = not turned
    elif _WEIGHED.match(text, end):
        return "open", begin, end
    sentence_end = _SENTENCE_END.search(text, end, end + FAR)
    if sentence_end is not None and sentence_end.group() in "?؟":
        return "open", begin, end
    clause = text[max(0, begin - FAR) : begin]
    starts = [found.end() for found in _CLAUSE.finditer(clause)]
    clause = clause[starts[-1] if starts else 0 :]
    if _DOUBT.search(clause) or _NONE_OF.search(clause):
        return "open", begin, end
    return "opposite" if turned else "meant", begin, end
