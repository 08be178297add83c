"""The demo's labelled tasks: for each label, templates over word lists. All text is made up here."""

from __future__ import annotations

from dataclasses import dataclass

from .grammar import Rules, one_of

PAIR = " || "
"""Stands between the two texts of a pair in a template."""


@dataclass(frozen=True)
class LabelledTask:
    """A task of the demo.

    Attributes:
        templates: label -> templates.
        either: templates that say little about the label; they come under every label.
        noise: share of rows that carry another label than the template's, as people mislabel some rows.
    """

    id: str
    family: str
    rules: Rules
    templates: dict[str, tuple[str, ...]]
    either: tuple[str, ...] = ()
    noise: float = 0.03
    is_pair: bool = False


_FEELING = {
    "good": one_of("great | excellent | wonderful | very good | a real pleasure | better than expected | first-rate"),
    "bad": one_of("terrible | disappointing | poor | a waste of money | worse than expected | dreadful | a letdown"),
    "glad": one_of(
        "I am delighted | I love it | what a joy | I could not be happier | thank you, it was lovely | full marks"
    ),
    "cross": one_of(
        "I am so disappointed | I hate it | what a mess | I could not be angrier | shame on them | no stars from me"
    ),
    "adverb": one_of("really | truly | frankly | honestly | simply | altogether"),
    "again": one_of("next month | next year | any time | with friends | soon | for my family"),
}

PRODUCTS = LabelledTask(
    id="product_reviews",
    family="sentiment",
    rules=_FEELING
    | {
        "thing": one_of(
            "kettle | headset | backpack | lamp | keyboard | blender | office chair | phone case | tent | vacuum | "
            "toaster | watch | drill | camera | mattress | water bottle"
        ),
        "part": one_of("battery | handle | zip | screen | motor | strap | lid | cable | finish | manual"),
        "good_part": one_of("sturdy | well made | easy to clean | smooth | clear | reliable | light and strong"),
        "bad_part": one_of(
            "flimsy | broken on arrival | badly made | scratched | loose | impossible to clean | faulty"
        ),
        "good_end": one_of(
            "would buy it again | worth every penny | still working after a year | I recommend it | my favourite so far"
        ),
        "bad_end": one_of(
            "I sent it back | it stopped working within a week | do not buy it | I want a refund | never again"
        ),
        "neutral": one_of(
            "it arrived on {day} in a plain box | I ordered the {thing} in grey | it replaces my old {thing} | "
            "I use the {thing} at home and at work | this is my second {thing} | my sister has the same {thing}"
        ),
        "day": one_of("Monday | Tuesday | Thursday | Friday | Saturday"),
    },
    templates={
        "positive": (
            "{neutral}. The {part} is {good_part}, {good_end}.",
            "the {thing} is {good}, {glad}. {neutral}.",
            "{adverb} {good}: the {part} is {good_part}. {glad}.",
            "I was worried about the {part}, but it is {good_part}. {good_end}.",
            "not {bad_part} at all, the {thing} is {good_part}. {neutral}.",
        ),
        "negative": (
            "{neutral}. The {part} is {bad_part}, {bad_end}.",
            "the {thing} is {bad}, {cross}. {neutral}.",
            "{adverb} {bad}: the {part} is {bad_part}. {cross}.",
            "I had hoped for a {good_part} {part}, but it is {bad_part}. {bad_end}.",
            "they call the {thing} {good_part}, yet the {part} was {bad_part}. {neutral}.",
        ),
    },
    either=("{neutral}. The {part} is {good_part} but the {part} is {bad_part}.",),
)

RESTAURANTS = LabelledTask(
    id="restaurant_reviews",
    family="sentiment",
    rules=_FEELING
    | {
        "dish": one_of(
            "soup | fish | pasta | curry | steak | salad | pizza | dessert | bread | coffee | dumpling | stew"
        ),
        "good_dish": one_of(
            "delicious | fresh | tender | full of flavour | perfectly cooked | heavenly | crisp and hot"
        ),
        "bad_dish": one_of("cold | bland | overcooked | greasy | stale | far too salty | raw in the middle"),
        "staff": one_of("waiter | chef | hostess | barman | owner | staff at the door"),
        "good_staff": one_of("friendly | attentive | charming | quick to help | patient with our children"),
        "bad_staff": one_of("rude | slow | careless | nowhere to be seen | annoyed by every question"),
        "good_end": one_of("we will be back {again} | five stars | we left happy | book a table {again}"),
        "bad_end": one_of("we will not be back | we left hungry | stay away | we complained and paid anyway"),
        "neutral": one_of(
            "we were a party of {number} | we came for {meal} on a {day} | the place is near the {spot} | "
            "I had the {dish} and my friend the {dish} | the menu has {number} kinds of {dish}"
        ),
        "number": one_of("three | four | five | six | eight"),
        "meal": one_of("lunch | dinner | breakfast | a birthday"),
        "day": one_of("Sunday | weekday | rainy evening | Friday night"),
        "spot": one_of("harbour | station | old market | theatre | park"),
    },
    templates={
        "positive": (
            "{neutral}. The {dish} was {good_dish} and the {staff} was {good_staff}.",
            "{adverb} {good}, {glad}. {neutral}.",
            "the {staff} was {good_staff}, {glad}. {good_end}.",
            "{neutral}, and {good_end}. The {dish}: {good_dish}.",
            "we feared the {dish} would be {bad_dish}, yet it was {good_dish}. {good_end}.",
        ),
        "negative": (
            "{neutral}. The {dish} was {bad_dish} and the {staff} was {bad_staff}.",
            "{adverb} {bad}, {cross}. {neutral}.",
            "the {staff} was {bad_staff}, {cross}. {bad_end}.",
            "{neutral}, and {bad_end}. The {dish}: {bad_dish}.",
            "the guide promised {good_dish} {dish}, but it was {bad_dish}. {bad_end}.",
        ),
    },
    either=("{neutral}. The {dish} was {good_dish}, the {dish} was {bad_dish}.",),
)

NEWS = LabelledTask(
    id="news_topics",
    family="topic",
    rules={
        "city": one_of("Norwick | Lanport | Estermouth | Velden | Brackhill | Sorrano | Tilling | Marrowby"),
        "when": one_of("on Monday | after months of waiting | this week | late last night | in early spring | at last"),
        "size": one_of("record | small | surprising | long-awaited | narrow | sudden"),
        "team": one_of("rowers | hockey side | football club | runners | cyclists | handball team | young swimmers"),
        "game": one_of("final | league match | relay | derby | tournament | semi-final | championship"),
        "firm": one_of("bank | airline | carmaker | brewery | shipping group | grocery chain | insurer"),
        "money": one_of("profits | sales | share price | debts | exports | quarterly earnings | wages"),
        "field": one_of("astronomers | chemists | marine biologists | physicists | geologists | brain researchers"),
        "find": one_of("comet | enzyme | fossil | new alloy | deep-sea worm | vaccine | distant planet"),
        "office": one_of("minister | mayor | senator | parliament | council | opposition leader | governor"),
        "bill": one_of("housing law | tax reform | border treaty | school bill | election rules | pension plan"),
    },
    templates={
        "sport": (
            "{team} of {city} win the {game} {when}",
            "{size} defeat for the {team} in the {game}",
            "coach of the {team} injured before the {game} in {city}",
            "{city} cheers {size} victory of its {team}",
        ),
        "business": (
            "{firm} in {city} reports {size} {money} {when}",
            "{size} rise in {money} at the {firm}",
            "{firm} cuts jobs in {city} as {money} fall",
            "investors in {city} turn to the {firm} {when}",
        ),
        "science": (
            "{field} in {city} describe a {find} {when}",
            "{size} discovery: {field} study the {find}",
            "a {find} puzzles {field} of the university of {city}",
            "experiment in {city} shows how the {find} came about",
        ),
        "politics": (
            "{office} in {city} votes on the {bill} {when}",
            "{size} majority for the {bill}",
            "{office} defends the {bill} in {city}",
            "protests in {city} as the {office} delays the {bill}",
        ),
    },
    either=("{size} news from {city} {when}", "crowds gather in {city} {when}"),
)

QUESTIONS = LabelledTask(
    id="question_types",
    family="question type",
    rules={
        "age": one_of("old | first | northern | royal | famous | ruined | lost | new | golden | hidden | wooden"),
        "work": one_of(
            "the {age} lighthouse | the {age} bridge | the {age} map | the {age} town hall | the {age} organ | "
            "the {age} statue | the {age} clock"
        ),
        "deed": one_of("painted | designed | paid for | discovered | restored | described | sold | stolen"),
        "place": one_of(
            "the {age} canal | the {age} salt mine | the {age} stables | the {age} garden | the {age} mint | "
            "the {age} harbour | the {age} theatre"
        ),
        "things": one_of("bridges | beehives | steps | islands | windows | paintings | villages | towers | visitors"),
        "event": one_of(
            "the {age} flood | the {age} harvest fair | the first flight | the siege of {place} | "
            "the opening of {place} | the fire in {place}"
        ),
        "state": one_of(
            "leaves turn red | bread rises | the sea is salty | bells are cast in sand | cats purr | ice floats"
        ),
    },
    templates={
        "person": (
            "who {deed} {work}?",
            "which architect {deed} {work}?",
            "do you know the name of the woman who {deed} {work}?",
            "{work} was {deed} by whom?",
        ),
        "place": (
            "where is {place} with the {things}?",
            "in which town can one visit {place}?",
            "from what country came the stone of {work}?",
            "do you know where {work} stands?",
        ),
        "number": (
            "how many {things} are there near {place}?",
            "what is the number of {things} of {work}?",
            "do you know how many {things} belong to {place}?",
            "how high is {work}?",
        ),
        "time": (
            "when was {event}?",
            "in which year was {work} {deed}?",
            "on what day did {event} begin?",
            "do you know when {place} was closed?",
        ),
        "reason": (
            "why is it that {state} near {place}?",
            "what caused {event}?",
            "for what reason was {work} {deed}?",
            "do you know why {place} was closed?",
        ),
    },
    either=("tell me more about {event} and {work}, please", "what about {place}, {event} and {work}?"),
)

MESSAGES = LabelledTask(
    id="message_intents",
    family="intent",
    rules={
        "name": one_of("Ada | Ben | Carla | Dov | Elin | Farid | Greta | Hugo | Ines | Jonas | Kaya | Lev"),
        "prize": one_of("holiday voucher | gift card | free phone | cash bonus | cruise for two | new scooter"),
        "click": one_of("click the link | reply now | call this number | confirm your account | send your details"),
        "soon": one_of("at once | within the hour | right now | before noon | immediately"),
        "spot": one_of("in the basement | at the depot | on the second floor | at the front desk | in the yard"),
        "trouble": one_of(
            "server {spot} is down | pipe {spot} has burst | alarm {spot} is ringing | customer {spot} is furious | "
            "truck {spot} is stuck"
        ),
        "chat": one_of(
            "lovely walk {day} | how was the concert {day} | see you at the picnic {day} | the kids say hello | "
            "the tomatoes are ripe | that was a fine evening {day}"
        ),
        "day": one_of("on Monday | on Friday | on Sunday | last week | in June | with {name}"),
        "task": one_of(
            "the report {day} | the key to the shed | last month's invoice | the slides from {name} | "
            "a list of guests for {name} | the ladder {spot}"
        ),
    },
    templates={
        "advertising": (
            "you have won a {prize}, {click}!",
            "{name}, a {prize} is waiting for you. {click} to claim it.",
            "only today: {prize} for half the price, {click}",
        ),
        "urgent": (
            "the {trouble}, please come {soon}, {name}!",
            "{name}, I need help {soon}, the {trouble}.",
            "emergency: the {trouble}. Call {name} {soon}.",
        ),
        "request": (
            "could you send me {task}, {name}?",
            "hi {name}, please bring {task} when you have time",
            "would you mind checking {task}, {name}?",
        ),
        "small talk": (
            "hi {name}, {chat}!",
            "{chat}, {name}. Hope you are well.",
            "just saying hello, {name}, {chat}, and to {name}",
        ),
    },
    either=("{name}, did {name} see {task}?", "hello {name}, it is about {task}"),
)

EMOTIONS = LabelledTask(
    id="diary_emotions",
    family="emotion",
    rules={
        "someone": one_of("my brother | our neighbour | the teacher | my oldest friend | a stranger | my boss"),
        "where": one_of("on the train | in the kitchen | at the office | by the lake | in the queue | at the clinic"),
        "scene": one_of(
            "{someone} spoke to me {where} | I met {someone} {where} | I waited for {someone} {where} | "
            "{someone} wrote about {event} | we talked about {event} {where} | {event} came up {where}"
        ),
        "event": one_of("the move | the exam | the wedding | the letter | the old house | the journey | the result"),
        "joy": one_of("I could not stop smiling | I danced home | I laughed until it hurt | what a happy day"),
        "anger": one_of("I slammed the door | I wanted to shout | how dare they | I am still furious"),
        "fear": one_of(
            "my hands were shaking | I did not dare to look | I was terrified | I could not sleep for worry"
        ),
        "sadness": one_of("I cried quietly | everything felt empty | I miss them so much | I stayed in bed all day"),
    },
    templates={
        "joy": ("{scene} and {joy}.", "{joy}. {scene}.", "good news about {event} {where}, {joy}"),
        "anger": ("{scene} and {anger}.", "{anger}. {scene}.", "{someone} lied to me about {event}, {anger}"),
        "fear": ("{scene} and {fear}.", "{fear}. {scene}.", "{event} and footsteps {where}, {fear}"),
        "sadness": ("{scene} and {sadness}.", "{sadness}. {scene}.", "{someone} is gone since {event}, {sadness}"),
    },
    either=("{scene}, and then I went home.",),
    noise=0.05,
)

FORMALITY = LabelledTask(
    id="letter_formality",
    family="formality",
    rules={
        "matter": one_of(
            "the invoice | your booking | the meeting | the broken lift | the contract | the parcel | the keys | "
            "the order for {day} | the repair | the deposit"
        ),
        "day": one_of("Monday | Tuesday | Wednesday | Thursday | Friday | the weekend | tomorrow | next week"),
        "sir": one_of("dear Sir or Madam | dear Ms Holm | dear Mr Okoro | dear colleagues"),
        "mate": one_of("hey | yo mate | hiya | hey guys | oi"),
        "wish": one_of(
            "I would be grateful for a reply | we kindly request confirmation | please accept our apologies"
        ),
        "slang": one_of("lemme know | gonna be late lol | no worries | sort it out, ok? | cheers | can't be bothered"),
        "formal_fact": one_of("{matter} has been forwarded to the department | we regret the delay regarding {matter}"),
        "loose_fact": one_of("{matter} got messed up again | still waiting on {matter} | so yeah, {matter} is a mess"),
    },
    templates={
        "formal": (
            "{sir}, {formal_fact}. {wish}.",
            "{formal_fact}. {wish} by {day}.",
            "{sir}, {wish} concerning {matter} and {matter}.",
        ),
        "informal": (
            "{mate}, {loose_fact}. {slang}",
            "{loose_fact}, {slang} by {day}",
            "{mate}, {slang}, {matter} and all",
        ),
    },
    either=("{matter} will be ready on {day}.", "thank you, I will look at {matter} on {day}."),
    noise=0.1,
)

ENTAILMENT = LabelledTask(
    id="pair_entailment",
    family="inference",
    rules={
        "person": one_of("woman | man | girl | boy | farmer | nurse | student | cook | sailor | clown"),
        "act": one_of(
            "reading a letter | mending a net | painting a fence | playing the flute | feeding geese | selling pears"
        ),
        "other_act": one_of("asleep | swimming | driving a bus | sitting in prison | flying a kite"),
        "place": one_of("in a garden | at the harbour | on a roof | in a market | beside a river"),
        "guess": one_of(
            "waiting for a friend | paid well for it | thinking of home | the best in town | getting tired"
        ),
    },
    templates={
        "yes": (
            "a {person:1} is {act:1} {place:1} || there is a {person:1} {place:1}",
            "a {person:1} is {act:1} {place:1} || someone is {act:1}",
            "two friends and a {person:1} are {act:1} {place:1} || several people are {place:1}",
        ),
        "no": (
            "a {person:1} is {act:1} {place:1} || the {person:1} is {other_act}",
            "a {person:1} is {act:1} {place:1} || nobody is {place:1}",
            "two friends and a {person:1} are {act:1} {place:1} || the {person:1} is all alone and {other_act}",
        ),
        "maybe": (
            "a {person:1} is {act:1} {place:1} || the {person:1} is {guess}",
            "a {person:1} is {act:1} {place:1} || the {person:1} is {act:1} because of a {person}",
            "two friends and a {person:1} are {act:1} {place:1} || the friends are {guess}",
        ),
    },
    either=("a {person:1} is {act} {place} || the {person:1} is {act} {place}",),
    is_pair=True,
)

STANCE = LabelledTask(
    id="reply_stance",
    family="stance",
    rules={
        "topic": one_of(
            "school uniforms | night trains | a four-day week | free museums | paper ballots | city bees | "
            "remote work | plastic toys | more cycle lanes | homework | a sugar tax | longer holidays"
        ),
        "claim": one_of(
            "we need {topic:1} | {topic:1} should be the rule | the town ought to pay for {topic:1} | "
            "I am all for {topic:1}"
        ),
        "yes": one_of("I could not agree more | exactly, well said | you are right | that is what I think, too"),
        "no": one_of("that is nonsense | I disagree | you are mistaken | I see it quite differently"),
        "unsure": one_of("I am not sure | hard to say | it depends | I would have to read more"),
        "reason": one_of(
            "{topic:1} cost too little to argue | think of the children | we tried it before | look abroad | "
            "my aunt lived through it"
        ),
    },
    templates={
        "agrees": ("{claim} || {yes}, {reason}", "{claim} || {reason}. {yes}", "{claim} || yes, {topic:1}, please"),
        "disagrees": (
            "{claim} || {no}, {reason}",
            "{claim} || {reason}. {no}",
            "{claim} || no, anything but {topic:1}",
        ),
        "undecided": (
            "{claim} || {unsure}, {reason}",
            "{claim} || {reason}. {unsure}",
            "{claim} || what would {topic:1} change?",
        ),
    },
    either=("{claim} || {reason}", "{claim} || so you want {topic:1}"),
    noise=0.05,
    is_pair=True,
)

TASKS = (PRODUCTS, RESTAURANTS, NEWS, QUESTIONS, MESSAGES, EMOTIONS, FORMALITY, ENTAILMENT, STANCE)
