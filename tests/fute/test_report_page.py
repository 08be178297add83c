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

from fute.report.page import render_atlas
from fute.report.types import Neighbor, Subject

from .browser import Browser, browser
from .report_data import HOSTILE, hostile_atlas, make_atlas, make_space, rich_atlas, unit_vectors

__all__ = ["browser"]  # the fixture


def test_the_page_opens_in_a_browser_without_errors(browser: Browser, tmp_path):
    """All that a browser does on it is tested in test_report_browser.py."""
    page = tmp_path / "page.html"
    page.write_text(render_atlas(make_atlas()), encoding="utf-8")
    browser.open(page)
    assert browser.run("return document.documentElement.dataset.ready") == "true"
    assert browser.console() == []


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
    data = rich_atlas()
    shown = payload(render_atlas(data))
    assert [subject["id"] for subject in shown["subjects"]] == [subject.id for subject in data.subjects]
    assert [space["order"] for space in shown["spaces"]] == [list(space.tree.order) for space in data.spaces]
    assert [len(space["members"]) for space in shown["spaces"]] == [12, 9]
    assert shown["createdAt"] == "2026-03-14 09:26 UTC"
    assert shown["failures"] == [{"id": "old/constant", "reason": "the outputs are the same for every input"}]
    told = shown["subjects"][1]
    assert (told["scoreName"], told["majority"]) == ("accuracy", 0.5)
    assert told["prompt"]["verbalizer"] == {"good": ["good", "positive"], "bad": ["bad"]}
    assert told["cost"]["usd"] == data.subjects[1].cost.usd
    assert [version["current"] for version in told["history"]] == [False, False, False, True]
    assert [check["drifted"] for check in told["drift"]].index(True) == 40
    assert told["drift"][0]["made"] == "2026-03-01 06:00:00 UTC"


def test_similarities_survive_packing():
    (space,) = make_atlas().spaces
    raw = base64.b64decode(payload(render_atlas(make_atlas()))["spaces"][0]["similarities"])
    unpacked = np.frombuffer(raw, dtype="<i2") / 32767
    below = np.tril_indices(len(space.members))
    np.testing.assert_allclose(unpacked, space.similarities[below], atol=2e-5)


def test_places_keep_their_shape():
    (space,) = make_atlas().spaces
    for told, projection in zip(
        payload(render_atlas(make_atlas()))["spaces"][0]["maps"], space.projections, strict=True
    ):
        places = np.array(told["places"]).reshape(-1, 2)
        scaled = projection.places / np.abs(projection.places).max() * 10_000
        np.testing.assert_allclose(places, scaled, atol=0.5)
        assert dict(told["kept"]) == pytest.approx(projection.kept, abs=1e-4)


def test_hostile_text_adds_no_element_and_comes_back_unchanged():
    plain, hostile = render_atlas(make_atlas()), render_atlas(hostile_atlas())
    assert [tag for tag, _ in Parts(hostile).tags] == [tag for tag, _ in Parts(plain).tags]
    shown = payload(hostile)
    assert {subject["id"] for subject in shown["subjects"]} >= set(HOSTILE)
    assert shown["spaces"][0]["notes"] == list(HOSTILE)
    assert shown["subjects"][1]["prompt"]["template"] == HOSTILE[1]


def test_the_data_hold_no_character_that_html_could_take_for_its_own():
    page = render_atlas(hostile_atlas())
    data = page.split('id="data">')[1].split("</script>")[0]
    assert not set("<>&\u2028\u2029") & set(data)
    assert data.isascii()


def test_the_policy_allows_only_the_page_s_own_script_and_style():
    parts = Parts(render_atlas(hostile_atlas()))
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
    page = render_atlas(make_atlas())
    assert not re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?(?!#|data:,)[a-z/]""", page.split('<script type="app')[0])
    assert set(re.findall(r"https?://[^\s\"'`]+", page)) == {
        "http://www.w3.org/2000/svg"
    }  # a namespace, not an address


def test_the_script_never_makes_markup_from_text():
    code = max((text for tag, text in Parts(render_atlas(make_atlas())).texts if tag == "script"), key=len)
    forbidden = (
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|DOMParser|fetch\(|XMLHttp"
    )
    assert not re.findall(forbidden, code)


def test_a_neighbor_that_is_not_on_the_page_keeps_its_name():
    (space,) = make_atlas().spaces
    near = [[Neighbor("elsewhere", "model", 0.5)], *space.nearest[1:]]
    shown = payload(render_atlas(make_atlas(spaces=[replace(space, nearest=near)])))
    assert shown["spaces"][0]["nearest"][0] == [[["elsewhere", "model"], 0.5, None, None, None, None]]


def test_times_are_shown_in_utc():
    there = timezone(timedelta(hours=2))
    assert payload(render_atlas(make_atlas(created_at=datetime(2026, 1, 1, 1, 30, tzinfo=there))))["createdAt"] == (
        "2025-12-31 23:30 UTC"
    )


def test_a_lone_surrogate_can_still_be_written_as_utf8():
    data = make_atlas(title="bad \ud800 title", notes=["bad \udfff note"])
    assert payload(render_atlas(data))["notes"] == ["bad \udfff note"]
    assert render_atlas(data).encode("utf-8")


def test_the_same_data_give_the_same_page():
    assert render_atlas(make_atlas()) == render_atlas(make_atlas())


def subject(**changes) -> Subject:
    return Subject(**({"id": "a", "kind": "dataset", "type": "classification"} | changes))


def test_a_dataset_and_a_model_may_share_an_id():
    both = [subject(), subject(kind="model", type="prompt")]
    make_atlas(subjects=both, spaces=[make_space(both, unit_vectors(("one",), noises=(0.1, 0.2)))])
