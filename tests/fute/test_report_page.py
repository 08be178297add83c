"""The page as text: what it carries, what it may do, and that no text from outside becomes markup."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from html.parser import HTMLParser

import numpy as np
import pytest

from fute.report.page import NEAREST_SHOWN, render_map
from fute.report.types import MapData, Neighbor, SubjectPoint

from .report_data import HOSTILE, hostile_map, make_map


class Parts(HTMLParser):
    """Tags with their attributes, and the text of scripts, styles and the title."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.inside = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside = tag

    def handle_data(self, data: str) -> None:
        if self.inside in ("script", "style", "title"):
            self.texts.append((self.inside, data))

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""


def payload(page: str) -> dict:
    (data,) = [text for tag, text in Parts(page).texts if tag == "script" and text.startswith("{")]
    return json.loads(data)


def test_the_page_holds_all_that_it_was_given():
    data = make_map()
    shown = payload(render_map(data))
    assert [subject["id"] for subject in shown["subjects"]] == [subject.id for subject in data.subjects]
    assert shown["order"] == list(data.order)
    assert shown["createdAt"] == "2026-03-14 09:26 UTC"
    assert shown["failures"] == [{"id": "old/constant", "reason": "the outputs are the same for every input"}]
    assert shown["subjects"][1]["scoreName"] == "accuracy"


def test_similarities_survive_packing():
    data = make_map()
    raw = base64.b64decode(payload(render_map(data))["similarities"])
    unpacked = np.frombuffer(raw, dtype="<i2").reshape(data.similarities.shape) / 32767
    np.testing.assert_allclose(unpacked, data.similarities, atol=2e-5)


def test_hostile_text_adds_no_element_and_comes_back_unchanged():
    plain, hostile = render_map(make_map()), render_map(hostile_map())
    assert [tag for tag, _ in Parts(hostile).tags] == [tag for tag, _ in Parts(plain).tags]
    shown = payload(hostile)
    assert {subject["id"] for subject in shown["subjects"]} >= set(HOSTILE)
    assert shown["notes"] == list(HOSTILE)


def test_the_data_hold_no_character_that_html_could_take_for_its_own():
    page = render_map(hostile_map())
    data = page.split('id="data">')[1].split("</script>")[0]
    assert not set("<>&\u2028\u2029") & set(data)
    assert data.isascii()


def test_the_policy_allows_only_the_page_s_own_script_and_style():
    parts = Parts(render_map(hostile_map()))
    policy = next(a["content"] for _, a in parts.tags if a.get("http-equiv") == "Content-Security-Policy")
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert "unsafe" not in policy
    assert "http" not in policy
    code = [text for tag, text in parts.texts if tag == "script" and not text.startswith("{")]
    style = [text for tag, text in parts.texts if tag == "style"]
    for source, directive in ((code, "script-src"), (style, "style-src")):
        digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in source]
        assert [f"'sha256-{digest}'" for digest in digests] == [rules[directive]]


def test_the_page_names_no_address_to_load_from():
    page = render_map(make_map())
    assert not re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?(?!#|data:,)[a-z/]""", page.split('<script type="app')[0])
    assert set(re.findall(r"https?://[^\s\"'`]+", page)) == {
        "http://www.w3.org/2000/svg"
    }  # a namespace, not an address


def test_the_script_never_makes_markup_from_text():
    code = max((text for tag, text in Parts(render_map(make_map())).texts if tag == "script"), key=len)
    forbidden = (
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|DOMParser|fetch\(|XMLHttp"
    )
    assert not re.findall(forbidden, code)


def test_only_the_nearest_of_each_kind_are_carried():
    data = make_map(tuple(f"task{i}" for i in range(NEAREST_SHOWN + 4)))
    model = payload(render_map(data))["subjects"][1]
    assert [kind for _, kind, *_ in model["nearest"]].count("dataset") == NEAREST_SHOWN
    assert [kind for _, kind, *_ in model["nearest"]].count("model") == NEAREST_SHOWN


def test_times_are_shown_in_utc():
    there = timezone(timedelta(hours=2))
    assert payload(render_map(make_map(created_at=datetime(2026, 1, 1, 1, 30, tzinfo=there))))["createdAt"] == (
        "2025-12-31 23:30 UTC"
    )


def test_a_lone_surrogate_can_still_be_written_as_utf8():
    data = make_map(title="bad \ud800 title", notes=["bad \udfff note"])
    assert payload(render_map(data))["notes"] == ["bad \udfff note"]
    assert render_map(data).encode("utf-8")


def test_the_same_data_give_the_same_page():
    assert render_map(make_map()) == render_map(make_map())


def point(**changes) -> SubjectPoint:
    return SubjectPoint(**({"id": "a", "kind": "dataset", "type": "classification", "x": 0.0, "y": 0.0} | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"similarities": np.ones((2, 2))}, r"shape \(2, 2\)"),
        ({"similarities": np.full((1, 1), 1.5)}, "1.5"),
        ({"similarities": np.full((1, 1), np.nan)}, "nan"),
        ({"order": [1]}, "each of the 1 subjects once"),
    ],
)
def test_data_that_do_not_fit_together_are_refused(changes, message):
    fields = {
        "title": "t",
        "subtitle": "s",
        "created_at": datetime(2026, 1, 1),
        "subjects": [point()],
        "similarities": np.ones((1, 1)),
        "order": [0],
    }
    MapData(**fields)
    with pytest.raises(ValueError, match=message):
        MapData(**(fields | changes))


def test_numbers_that_are_not_finite_and_twice_the_same_subject_are_refused():
    with pytest.raises(ValueError, match="None where a value is missing"):
        point(score=float("nan"))
    with pytest.raises(ValueError, match="inf"):
        point(nearest=[Neighbor("m", "model", float("inf"))])
    data = make_map()
    with pytest.raises(ValueError, match="ids must differ"):
        replace(data, subjects=[data.subjects[0], *data.subjects[:-1]])


def test_a_dataset_and_a_model_may_share_an_id():
    MapData(
        title="t",
        subtitle="s",
        created_at=datetime(2026, 1, 1),
        subjects=[point(), point(kind="model", type="prompt")],
        similarities=np.ones((2, 2)),
        order=[0, 1],
    )
