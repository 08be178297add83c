"""Made-up atlases for the tests of the report."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from fute.report.layout import cluster_tree, projections
from fute.report.types import (
    Atlas,
    Command,
    Cost,
    DriftCheck,
    Failure,
    Neighbor,
    Prompt,
    SpaceMap,
    Subject,
    Version,
)
from fute.unify.frame import LEGEND, Verdict

TASKS = ("hotel_reviews", "court_topics", "mail_intents", "recipe_cuisine")
RECIPES = (("tfidf", "trained", 0.9), ("probe", "transformers", 0.5))
BEGIN = datetime(2026, 3, 1, 6, 0, tzinfo=UTC)
HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "</script><script>document.title='taken'</script>",
    "\"'><svg onload=alert(2)> &amp; \u2028\u202e",
    "javascript:alert(3)//{{7*7}}${7*7}`",
)


def unit_vectors(
    tasks: tuple[str, ...] = TASKS,
    *,
    seed: int = 0,
    dim: int = 24,
    noises: tuple[float, ...] = (0.2, 0.9, 0.5),
    families: int = 0,
) -> np.ndarray:
    """Per task one vector of each noise around a center: first the dataset, then its models."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(max(families, 1), dim))
    rows = []
    for task in range(len(tasks)):
        center = rng.normal(size=dim) + (0.7 * shared[task % families] if families else 0.0)
        rows += [center + noise * rng.normal(size=dim) for noise in noises]
    vectors = np.array(rows)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def neighbor(subject: Subject, similarity: float) -> Neighbor:
    score = max(0.0, 12 * similarity)
    verdict: Verdict = "fits" if score > 6 else "may fit" if score > 4 else "nothing"
    return Neighbor(subject.id, subject.kind, score, max(0.0, score - 0.7), score + 0.5, verdict)


def make_space(subjects: list[Subject], vectors: np.ndarray, **changes: Any) -> SpaceMap:
    similarities = vectors @ vectors.T
    nearest = []
    for row, subject in enumerate(subjects):
        others = [
            (subjects[other], float(similarities[row, other]))
            for other in np.argsort(-similarities[row])
            if other != row and (subject.kind == "model" or subjects[other].kind == "model")
        ]
        nearest.append([neighbor(one, similarity) for one, similarity in others])
    fields: dict[str, Any] = {
        "id": "c0ffee",
        "name": "crosscov",
        "about": "crosscov on MiniLM, pool of 400 texts",
        "members": list(range(len(subjects))),
        "similarities": similarities,
        "projections": projections(similarities),
        "tree": cluster_tree(similarities),
        "nearest": nearest,
        "legend": LEGEND,
        "notes": ["One dataset is left out."],
    }
    return SpaceMap(**(fields | changes))


def make_subjects(tasks: tuple[str, ...] = TASKS) -> list[Subject]:
    subjects = []
    for number, task in enumerate(tasks):
        family = ("opinion", "subject")[number // 2 % 2]
        facts = [("training rows", "240")]
        subjects.append(Subject(id=task, kind="dataset", type="classification", family=family, facts=facts))
        subjects += [
            Subject(id=f"{recipe}/{task}", kind="model", type=kind, family=family, task=task,
                    score=0.8125, score_name="accuracy", majority=0.5)
            for recipe, kind, _ in RECIPES
        ]  # fmt: skip
    return subjects


def make_atlas(tasks: tuple[str, ...] = TASKS, **changes: Any) -> Atlas:
    """An atlas of one space; `changes` replace fields of it."""
    subjects = make_subjects(tasks)
    fields: dict[str, Any] = {
        "title": "Spring zoo",
        "created_at": datetime(2026, 3, 14, 9, 26, tzinfo=UTC),
        "subjects": subjects,
        "spaces": [make_space(subjects, unit_vectors(tasks))],
        "failures": [Failure("old/constant", "the outputs are the same for every input")],
        "store": "examples/store",
        "commands": [Command("In SQL", "fute sql 'select 1'")],
    }
    return Atlas(**(fields | changes))


def empty_atlas() -> Atlas:
    return make_atlas(subjects=[], spaces=[make_space([], np.zeros((0, 24)))])


def lone_atlas() -> Atlas:
    alone = [Subject(id="alone", kind="dataset", type="classification")]
    return make_atlas(subjects=alone, spaces=[make_space(alone, unit_vectors(("alone",), noises=(0.2,)))])


def drift_checks(number: int, *, alarm_from: int | None = None, seed: int = 0) -> list[DriftCheck]:
    """Hourly checks; from one on, the model is another."""
    rng = np.random.default_rng(seed)
    checks = []
    for hour in range(number):
        changed = alarm_from is not None and hour >= alarm_from
        share = 0.01 * rng.uniform() + (0.04 if changed else 0.0)
        checks.append(
            DriftCheck(
                made=BEGIN + timedelta(hours=hour),
                baseline="panel-000001",
                drifted=changed,
                share=share,
                low=share / 2,
                high=2 * share,
                reasons=["the label changed on 4 % of your texts" if changed else "no change"],
            )
        )
    return checks


def prompted(subject: Subject, number: int, **changes: Any) -> Subject:
    """The same subject as a prompted model, with all that is known of one."""
    prompt = Prompt(
        template="What is the opinion in this text?\nText: {{text}}\n",
        system="Answer with one word.",
        verbalizer={"good": ["good", "positive"], "bad": ["bad"]},
    )
    cost = Cost(calls=400, tokens_in=52_000 + number, tokens_out=800, usd=0.00828 + number / 1e5, latency_ms=212.0)
    versions = [
        Version("c0ffee", BEGIN + timedelta(days=4 * step), f"f{number}{step}", step == 3, 0.94 + 0.02 * step, "run9")
        for step in range(4)
    ]  # fmt: skip
    told: dict[str, Any] = {"type": "prompt", "prompt": prompt, "cost": cost, "history": versions}
    told |= {"drift": drift_checks(48, alarm_from=40 if number % 3 == 0 else None, seed=number)}
    return replace(subject, **(told | changes))


def rich_atlas(**changes: Any) -> Atlas:
    """Two spaces (the second without the last task), and prompted models with prompts, costs, versions and drift."""
    subjects = make_subjects()
    for number, row in enumerate((1, 4, 7)):
        subjects[row] = prompted(subjects[row], number)
    vectors, others = unit_vectors(), unit_vectors(seed=4, dim=40)
    few = subjects[:9]
    second = make_space(
        few, others[:9], id="decaf", name="tupate", about="tupate on MiniLM, pool of 400 texts", notes=[]
    )
    return make_atlas(**({"subjects": subjects, "spaces": [make_space(subjects, vectors), second]} | changes))


def large_atlas(tasks: int = 100, methods: tuple[str, ...] = ("crosscov", "tupate", "taskemb")) -> Atlas:
    """100 tasks of 9 families, five subjects each, every second model prompted and watched."""
    names = tuple(f"domain{number}_task_with_a_rather_long_name" for number in range(tasks))
    subjects: list[Subject] = []
    for number, name in enumerate(names):
        about: dict[str, Any] = {"family": f"family {number % 9}"}
        subjects.append(Subject(id=name, kind="dataset", type="classification", **about))
        for make, kind in (("tfidf", "trained"), ("probe", "transformers"), ("plain", "prompt"), ("advice", "prompt")):
            model = Subject(id=f"{make}/{name}", kind="model", type=kind, task=name, score=0.6 + 0.003 * number,
                            score_name="accuracy", majority=0.4, **about)  # fmt: skip
            subjects.append(model if kind != "prompt" else prompted(model, number))
    spaces = []
    for seed, method in enumerate(methods):
        vectors = unit_vectors(names, seed=seed, dim=256, noises=(0.3, 0.45, 0.6, 0.75, 0.9), families=9)
        spaces.append(make_space(subjects, vectors, id=f"space{seed}", name=method, about=f"{method} on MiniLM"))
    return make_atlas(subjects=subjects, spaces=spaces)


def hostile_atlas() -> Atlas:
    """Every text from outside chosen to do harm."""
    first, second, third, fourth = HOSTILE
    subjects = make_subjects(HOSTILE)
    harmful = Prompt(template=second, system=first, follow_up=fourth, verbalizer={first: [second], third: [fourth]})
    subjects[1] = prompted(
        subjects[1], 0, type=first, family=second, facts=[(first, second), (third, fourth)], prompt=harmful,
        drift=[check._replace(reasons=[first, third], baseline=second) for check in drift_checks(3, alarm_from=1)],
        history=[Version(second, BEGIN, first, True, 1.0, third, fourth)],
    )  # fmt: skip
    space = make_space(subjects, unit_vectors(HOSTILE), id=first, name=second, about=third, notes=list(HOSTILE))
    return make_atlas(
        title=f"{second} {first}",
        subjects=subjects,
        spaces=[space, replace(space, id=second, name=fourth)],
        failures=[Failure(first, second), Failure(fourth, third)],
        store=second,
        commands=[Command(first, second)],
        interval=first,
    )
