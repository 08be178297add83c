import re
import unicodedata

import pytest

from fute.data.normalise import normalise, normalise_all

TEXTS = [
    "It 's a film -- a GOOD one !",
    "  tabs\tand\nlines ",
    "Straße, ﬁne; ＷＩＤＥ “quotes” … naïve",
    "किताब पढ़ी",
    "İstanbul ǅ",
    "soft\u00adhyphen and zero\u200bwidth",
    "love it 😍!!",
    "2 + 2 = 4 `code` ~ ^",
    "ümlaut _under_ 'x'",
]


def slow(text):
    form = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    kept = [c for c in form if not (c < "\x80" and not c.isalnum())]
    kept = [c for c in kept if unicodedata.category(c)[0] not in "PZC" and unicodedata.category(c) != "Sk"]
    return "".join(kept)


@pytest.mark.parametrize("text", TEXTS)
def test_normalising_equals_a_character_by_character_version(text):
    assert normalise(text) == slow(text)
    assert normalise(normalise(text)) == normalise(text)


def test_copies_in_other_case_tokenisation_and_width_look_the_same():
    assert len(set(normalise_all(["Don't stop!", "do n't  STOP", "Ｄon’t stop", "don\u00adt stop"]))) == 1


def test_what_a_text_says_in_symbols_or_accents_stays():
    assert normalise("good 😍") != normalise("good 😡")
    assert normalise("पढ़ी") != normalise("पढ़ा")


def test_texts_of_punctuation_alone_keep_their_difference():
    assert normalise(" !!! ") == "!!!"
    assert normalise("???") != normalise("!!!")
    assert re.fullmatch(r"\S+", normalise("..."))
