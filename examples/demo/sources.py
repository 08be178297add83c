"""The demo's unlabelled sources, from which the pool is drawn: the tasks' own domains, and others."""

from __future__ import annotations

from dataclasses import dataclass

from .grammar import Rules, one_of
from .tasks import (
    EMOTIONS,
    ENTAILMENT,
    FORMALITY,
    MESSAGES,
    NEWS,
    PRODUCTS,
    QUESTIONS,
    RESTAURANTS,
    STANCE,
    LabelledTask,
)


@dataclass(frozen=True)
class UnlabelledSource:
    """Texts without labels; a template with two texts makes pairs."""

    id: str
    rules: Rules
    templates: tuple[str, ...]


def _like(source_id: str, *tasks: LabelledTask) -> UnlabelledSource:
    """Texts of the tasks' domains. Slots of the same name take the words of all tasks."""
    rules: dict[str, tuple[str, ...]] = {}
    for task in tasks:
        for slot, choices in task.rules.items():
            rules[slot] = tuple(dict.fromkeys([*rules.get(slot, ()), *choices]))
    templates = [t for task in tasks for group in [*task.templates.values(), task.either] for t in group]
    return UnlabelledSource(source_id, rules, tuple(templates))


SOURCES = (
    _like("shop_talk", PRODUCTS),
    _like("table_talk", RESTAURANTS),
    _like("headlines", NEWS),
    _like("quiz_questions", QUESTIONS),
    _like("inbox", MESSAGES, FORMALITY),
    _like("diaries", EMOTIONS),
    _like("scenes_in_pairs", ENTAILMENT),
    _like("debates_in_pairs", STANCE),
    UnlabelledSource(
        "weather",
        {
            "sky": one_of(
                "heavy rain | light snow | morning fog | clear skies | strong wind | thunder | drizzle | hail"
            ),
            "region": one_of("the coast | the valleys | the north | the islands | the hills | the lowlands"),
            "time": one_of("by noon | overnight | towards evening | from Tuesday | all day | before dawn"),
            "care": one_of("drive carefully | a fine day for a walk | ferries may be cancelled | mind the frost"),
        },
        (
            "{sky} in {region} {time}",
            "{sky} {time}, later {sky} over {region}. {care}.",
            "{care}: {sky} expected {time}",
        ),
    ),
    UnlabelledSource(
        "recipes",
        {
            "verb": one_of("chop | fry | boil | peel | roast | grate | whisk"),
            "food": one_of("onions | carrots | two eggs | the beans | potatoes | mushrooms | a lemon | walnuts"),
            "minutes": one_of("five | ten | twenty | forty"),
            "finish": one_of("serve with parsley | leave it to cool | add salt to taste | stir from time to time"),
        },
        (
            "{verb} {food}, then {verb} {food} for {minutes} minutes",
            "{verb} {food}. {finish}.",
            "{finish}, and {verb} {food}",
        ),
    ),
    UnlabelledSource(
        "travel_tips",
        {
            "way": one_of("tram | ferry | night bus | cable car | rented bicycle | mountain railway"),
            "sight": one_of(
                "castle ruin | fishing village | waterfall | salt lake | clock tower | puppet museum | "
                "lighthouse | covered market"
            ),
            "tip": one_of(
                "buy the {way} ticket in advance | bring a coat | go before ten | do not miss the view | "
                "it is overrated"
            ),
        },
        (
            "take the {way} to the {sight}; {tip}",
            "is the {way} to the {sight} worth it?",
            "we loved the {sight}, although the {way} was late. {tip}.",
            "the {sight} was closed and the {way} full, what a bad day",
        ),
    ),
    UnlabelledSource(
        "help_desk_in_pairs",
        {
            "device": one_of("printer | router | tablet | heating | coffee machine | door lock"),
            "fault": one_of("blinks red | makes a noise | will not start | has lost its settings | smells of smoke"),
            "advice": one_of(
                "switch it off and on | call the technician | charge it overnight | that is normal | replace it"
            ),
            "mood": one_of("thank you | this is urgent | I am getting angry | no hurry | I am a little afraid of it"),
        },
        (
            "why does the {device:1} {fault}? || {advice}",
            "my {device:1} {fault}, {mood} || {advice}, and tell us if the {device:1} {fault}",
            "the {device} {fault} || the {device} {fault}, too. {mood}",
        ),
    ),
)
