"""The page in a real browser: it opens from a file, answers the pointer and the keyboard, and runs nothing foreign."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import numpy as np
import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from fute.report.page import render_map
from fute.report.types import MapData, Neighbor, SubjectPoint

from .browser import Browser, browser
from .report_data import HOSTILE, TASKS, hostile_map, make_map

__all__ = ["browser"]  # the fixture

PHONE = {"width": 390, "height": 844}
FITS = "return document.documentElement.scrollWidth <= window.innerWidth"


def empty_map() -> MapData:
    return make_map(subjects=[], similarities=np.zeros((0, 0)), order=[])


def lone_map() -> MapData:
    alone = SubjectPoint(id="alone", kind="dataset", type="classification", x=0.0, y=0.0)
    return make_map(subjects=[alone], similarities=np.ones((1, 1)), order=[0])


def many_tasks(number: int) -> MapData:
    return make_map(tuple(f"domain{i}_task_with_a_rather_long_name" for i in range(number)))


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    maps = {"zoo": make_map(), "hostile": hostile_map(), "empty": empty_map(), "lone": lone_map()}
    maps |= {"middle": many_tasks(14), "large": many_tasks(100)}
    for name, data in maps.items():
        (folder / f"{name}.html").write_text(render_map(data), encoding="utf-8")
    return {name: folder / f"{name}.html" for name in maps}


def subject(driver, name: str):
    return next(
        p
        for p in driver.find_elements(By.CSS_SELECTOR, ".point")
        if p.get_attribute("aria-label").startswith(f"{name}, ")
    )


def hover(driver, element) -> None:
    driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
    ActionChains(driver).move_to_element(element).perform()


def visible_rows(driver, table: str) -> list[str]:
    script = "return [...document.querySelectorAll(arguments[0])].filter((r) => r.offsetHeight).map((r) => r.innerText)"
    return [row.strip() for row in driver.execute_script(script, f"{table} tbody tr")]


OPENED = [("zoo", {}, False), ("zoo", PHONE, True), ("hostile", {}, True), ("hostile", PHONE, False)]
OPENED += [("empty", PHONE, False), ("lone", {}, False), ("lone", PHONE, True)]


@pytest.mark.parametrize(("name", "size", "dark"), OPENED)
def test_the_page_opens_without_errors_requests_or_overflow(browser: Browser, pages, name, size, dark):
    browser.open(pages[name], **size, dark=dark)
    assert browser.run("return document.documentElement.dataset.ready") == "true"
    assert browser.console() == []
    assert {url.split(":")[0] for url in browser.requests()} <= {"file", "data"}
    assert browser.run(FITS)


def test_three_hundred_subjects_stay_quick(browser: Browser, pages):
    driver = browser.open(pages["large"])
    assert browser.console() == []
    milliseconds = browser.run(
        """
        const picture = document.querySelector("svg.map");
        const box = picture.getBoundingClientRect(), start = performance.now();
        for (let i = 0; i < 20; i++) picture.dispatchEvent(new PointerEvent("pointermove",
          {pointerType: "mouse", bubbles: true, clientX: box.left + 60 + 30 * i, clientY: box.top + 60 + 20 * i}));
        return (performance.now() - start) / 20;
        """
    )
    assert milliseconds < 250  # about 10 on an idle core; the bound allows for a busy machine
    assert len(driver.find_elements(By.CSS_SELECTOR, ".point")) == 300
    browser.open(pages["large"], **PHONE)
    assert browser.run(FITS)


def test_the_answer_comes_first(browser: Browser, pages):
    driver = browser.open(pages["zoo"])
    assert "8 of 8 models" in driver.find_element(By.ID, "headline").text
    rows = visible_rows(driver, "#dataset-table")
    assert len(rows) == len(TASKS)
    assert all(f"probe/{row.splitlines()[0]}" in row for row in rows)
    titles = [bar.get_attribute("title") for bar in driver.find_elements(By.CSS_SELECTOR, "#dataset-table .score")]
    assert all(title.startswith("95 % bootstrap interval: ") for title in titles)


def test_hover_shows_a_tooltip_with_id_kind_score_and_nearest(browser: Browser, pages):
    driver = browser.open(pages["zoo"])
    tooltip = driver.find_element(By.ID, "tooltip")
    assert not tooltip.is_displayed()
    hover(driver, subject(driver, "tfidf/hotel_reviews"))
    assert tooltip.is_displayed()
    for part in ("tfidf/hotel_reviews", "model", "trained", "accuracy 0.81", "nearest dataset", "hotel_reviews"):
        assert part in tooltip.text
    assert driver.find_elements(By.CSS_SELECTOR, ".edge")
    hover(driver, driver.find_element(By.ID, "map-title"))
    assert not tooltip.is_displayed()


def test_click_pins_and_a_second_place_unpins(browser: Browser, pages):
    driver = browser.open(pages["zoo"])
    panel = driver.find_element(By.ID, "map-panel")
    point = subject(driver, "court_topics")
    hover(driver, point)
    point.click()
    assert "court_topics" in panel.text
    assert "Nearest models" in panel.text
    assert point.get_attribute("aria-selected") == "true"
    assert driver.find_element(By.CSS_SELECTOR, "tr.pinned").text.startswith("court_topics")
    hover(driver, driver.find_element(By.ID, "map-title"))
    assert "court_topics" in panel.text
    panel.find_element(By.CSS_SELECTOR, ".close").click()
    assert "Point at a subject" in panel.text


def test_a_tap_on_a_phone_shows_and_pins(browser: Browser, pages):
    driver = browser.open(pages["zoo"], **PHONE)
    point = subject(driver, "mail_intents")
    driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", point)
    box = browser.run(
        "const b = arguments[0].getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]", point
    )
    finger = [{"x": box[0], "y": box[1]}]
    driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
    driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": finger})
    driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})
    assert "mail_intents" in driver.find_element(By.ID, "map-panel").text
    assert driver.find_element(By.ID, "tooltip").is_displayed()
    assert browser.run(FITS)


def test_the_keyboard_reaches_every_subject_and_pins(browser: Browser, pages):
    driver = browser.open(pages["zoo"])
    assert len(driver.find_elements(By.CSS_SELECTOR, ".point[tabindex='0']")) == 1
    driver.find_element(By.ID, "map-search").click()
    keys = ActionChains(driver)
    keys.send_keys(*[Keys.TAB] * 5).perform()  # colour choice, three zoom buttons, the map
    seen = set()
    for key in [Keys.ARROW_LEFT, Keys.ARROW_UP, *[Keys.ARROW_RIGHT, Keys.ARROW_DOWN, Keys.ARROW_LEFT] * 6]:
        focused = driver.switch_to.active_element
        assert "point" in focused.get_attribute("class")
        seen.add(focused.get_attribute("data-index"))
        ActionChains(driver).send_keys(key).perform()
    assert len(seen) >= 4
    ActionChains(driver).send_keys(Keys.ENTER).perform()
    name = driver.switch_to.active_element.get_attribute("aria-label").split(",")[0]
    assert name in driver.find_element(By.ID, "map-panel").text
    assert driver.find_element(By.ID, "tooltip").is_displayed()
    ActionChains(driver).send_keys(Keys.ESCAPE).perform()
    assert "Point at a subject" in driver.find_element(By.ID, "map-panel").text


def test_the_wheel_zooms_and_show_all_comes_back(browser: Browser, pages):
    driver = browser.open(pages["zoo"])
    places = "return [...document.querySelectorAll('.point')].map((p) => p.getAttribute('transform')).join()"
    before = browser.run(places)
    wheel = """
        const picture = document.querySelector("svg.map"), box = picture.getBoundingClientRect();
        return !picture.dispatchEvent(new WheelEvent("wheel",
          {deltaY: arguments[0], bubbles: true, cancelable: true, clientX: box.left + 200, clientY: box.top + 150}));
    """
    assert browser.run(wheel, 120) is False  # nothing to zoom out of: the page scrolls
    driver.find_element(By.CSS_SELECTOR, "[aria-label='Zoom in']").click()
    zoomed = browser.run(places)
    assert zoomed != before
    browser.run("return new Promise((done) => setTimeout(done, 350))")
    assert browser.run(wheel, -120) is True
    assert browser.run(places) != zoomed
    driver.find_element(By.CSS_SELECTOR, "[aria-label='Show all']").click()
    assert browser.run(places) == before


def test_dragging_moves_a_zoomed_map_and_pins_nothing(browser: Browser, pages):
    driver = browser.open(pages["zoo"])
    driver.find_element(By.CSS_SELECTOR, "[aria-label='Zoom in']").click()
    picture = driver.find_element(By.CSS_SELECTOR, "svg.map")
    driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", picture)
    place = "return document.querySelector('.point').getAttribute('transform')"
    before = browser.run(place)
    ActionChains(driver).move_to_element(picture).click_and_hold().move_by_offset(40, 25).release().perform()
    assert browser.run(place) != before
    assert "Point at a subject" in driver.find_element(By.ID, "map-panel").text


def test_labels_cover_neither_each_other_nor_points(browser: Browser, pages):
    for size in ({}, PHONE):
        browser.open(pages["large"], **size)
        overlaps = browser.run(
            """
            const box = (node) => node.getBoundingClientRect();
            const labels = [...document.querySelectorAll(".label:not(.off)")].map(box);
            const points = [...document.querySelectorAll(".point")].map(box);
            const over = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 2
              && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 5;
            return [labels.length, labels.filter((a, i) =>
              labels.some((b, j) => i < j && over(a, b)) || points.some((b) => over(a, b))).length];
            """
        )
        # On a phone 300 subjects leave room for a few names only, until one zooms in.
        assert overlaps[0] >= (2 if size else 5)
        assert overlaps[1] == 0


def test_search_marks_what_matches(browser: Browser, pages):
    driver = browser.open(pages["zoo"])
    driver.find_element(By.ID, "map-search").send_keys("cuisine probe")
    assert len(driver.find_elements(By.CSS_SELECTOR, ".point.match")) == 1
    assert driver.find_element(By.CSS_SELECTOR, ".found").text == "1 found"
    driver.find_element(By.ID, "map-search").send_keys(Keys.ENTER)
    assert "probe/recipe_cuisine" in driver.find_element(By.ID, "map-panel").text


def test_colours_follow_the_kind_or_the_family(browser: Browser, pages):
    driver = browser.open(pages["zoo"])
    colors = "return [...document.querySelectorAll('.point.model')].map((p) => getComputedStyle(p.firstChild).fill)"
    by_kind = browser.run(colors)
    assert by_kind[0] == by_kind[2] != by_kind[1]
    driver.find_element(By.CSS_SELECTOR, "input[value=family] + span").click()
    by_family = browser.run(colors)
    assert by_family[0] == by_family[1] != by_family[4]
    assert "opinion" in driver.find_element(By.CSS_SELECTOR, ".legend").text
    driver.find_element(By.CSS_SELECTOR, ".legend button").click()
    assert len(driver.find_elements(By.CSS_SELECTOR, ".point.dim")) == 6


def test_a_cell_of_the_heat_map_is_read_on_hover_and_selected_on_click(browser: Browser, pages):
    data = make_map()
    driver = browser.open(pages["zoo"])
    canvas = driver.find_element(By.CSS_SELECTOR, "canvas.heat")
    hover(driver, canvas)
    ActionChains(driver).click().perform()
    panel = driver.find_element(By.ID, "heatmap-panel")
    names = [name.text for name in panel.find_elements(By.CSS_SELECTOR, ".pair-member .subject")]
    rows = {subject.id: row for row, subject in enumerate(data.subjects)}
    first, second = names if len(names) == 2 else names * 2
    value = f"{data.similarities[rows[first], rows[second]]:.3f}".replace("-", "−")
    assert value in panel.text
    assert value in driver.find_element(By.ID, "heat-readout").text
    before = driver.find_element(By.ID, "heat-readout").text
    ActionChains(driver).send_keys(Keys.ARROW_RIGHT, Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ENTER).perform()
    assert driver.find_element(By.ID, "heat-readout").text != before
    panel.find_element(By.CSS_SELECTOR, ".pair-member .subject").click()
    assert len(driver.find_elements(By.CSS_SELECTOR, ".point.pinned")) == 1


def test_like_pairs_are_blue_and_opposite_ones_brown(browser: Browser, pages):
    data = make_map()
    driver = browser.open(pages["zoo"])
    off = data.similarities[np.ix_(data.order, data.order)].copy()
    np.fill_diagonal(off, 0)
    high, low = np.unravel_index(off.argmax(), off.shape), np.unravel_index(off.argmin(), off.shape)
    canvas = driver.find_element(By.CSS_SELECTOR, "canvas.heat")
    pick = """
        const [canvas, n, [row, column]] = arguments, size = canvas.width;
        const cell = Math.min(46, Math.floor(size / n)), start = size - cell * n;
        return [...canvas.getContext("2d").getImageData(start + column * cell + 3, start + row * cell + 3, 1, 1).data];
    """
    blue, brown = (browser.run(pick, canvas, len(off), [int(a) for a in place]) for place in (high, low))
    assert blue[2] > blue[0]
    assert brown[0] > brown[2]


def test_tables_filter_choose_sort_and_unfold(browser: Browser, pages):
    driver = browser.open(pages["middle"])
    assert len(visible_rows(driver, "#model-table")) == 10
    driver.find_element(By.CSS_SELECTOR, "#model-table .more").click()
    assert len(visible_rows(driver, "#model-table")) == 28
    driver.find_element(By.CSS_SELECTOR, "#model-table input").send_keys("domain7_ probe")
    assert [row.splitlines()[0] for row in visible_rows(driver, "#model-table")] == [
        "probe/domain7_task_with_a_rather_long_name"
    ]
    driver.find_element(By.CSS_SELECTOR, "#model-table input").clear()
    Select(driver.find_element(By.CSS_SELECTOR, "#model-table select")).select_by_value("trained")
    assert all(row.startswith("tfidf/") for row in visible_rows(driver, "#model-table"))
    driver.find_element(By.CSS_SELECTOR, "#model-table input").send_keys("no such model")
    assert "Nothing matches" in driver.find_element(By.ID, "model-table").text
    head = driver.find_element(By.CSS_SELECTOR, "#dataset-table th")
    head.find_element(By.TAG_NAME, "button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    names = [row.splitlines()[0] for row in visible_rows(driver, "#dataset-table")]
    assert names == [f"domain{i}_task_with_a_rather_long_name" for i in range(6)]


def test_failures_notes_and_commands_are_shown(browser: Browser, pages):
    driver = browser.open(pages["zoo"])
    assert "the outputs are the same for every input" in driver.find_element(By.ID, "failure-table").text
    assert "Reference means: version 1." in driver.find_element(By.ID, "notes").text
    assert "fute sql 'select 1'" in driver.find_element(By.ID, "next").text
    assert driver.find_element(By.ID, "counts").text.split() == ["datasets", "4", "models", "8", "failed", "1"]


def test_foreign_text_is_shown_as_text_and_nothing_of_it_runs(browser: Browser, pages):
    driver = browser.open(pages["hostile"])
    body = driver.find_element(By.TAG_NAME, "body").get_attribute("textContent")
    assert all(text in body for text in HOSTILE)
    for text in HOSTILE:
        point = subject(driver, text)
        hover(driver, point)
        assert text in driver.find_element(By.ID, "tooltip").get_attribute("textContent")
        point.click()
        assert text in driver.find_element(By.ID, "map-panel").get_attribute("textContent")
    hover(driver, driver.find_element(By.CSS_SELECTOR, "canvas.heat"))
    ActionChains(driver).click().perform()
    assert driver.title == hostile_map().title
    assert browser.run("return document.querySelectorAll('img, iframe, object, svg[onload], script').length") == 2
    assert browser.console() == []
    assert {url.split(":")[0] for url in browser.requests()} <= {"file", "data"}


def test_the_policy_stops_what_would_be_injected_all_the_same(browser: Browser, pages):
    browser.open(pages["zoo"])
    browser.run(
        """
        const script = document.createElement("script");
        script.textContent = "document.title = 'taken'";
        document.body.append(script);
        const image = document.createElement("img");
        image.src = "http://127.0.0.1:9/x.png";
        image.setAttribute("onerror", "document.title = 'taken'");
        document.body.append(image);
        """
    )
    asked = browser.run("return fetch('http://127.0.0.1:9/').then(() => 'answered', (error) => String(error))")
    assert "TypeError" in asked
    assert browser.run("return document.title") == "Spring zoo"
    assert any("Content Security Policy" in line for line in browser.console())


def test_a_page_without_scores_families_or_failures_leaves_them_out(browser: Browser, tmp_path):
    data = make_map(failures=[], notes=[], commands=[], store=None)
    bare = [
        replace(s, family=None, task=None, score=None, score_name=None, nearest=[Neighbor(*n[:3]) for n in s.nearest])
        for s in data.subjects
    ]
    page = tmp_path / "bare.html"
    page.write_text(render_map(replace(data, subjects=bare, created_at=datetime(2026, 1, 1))), encoding="utf-8")
    driver = browser.open(page)
    assert browser.console() == []
    for hidden in ("failed", "notes", "next"):
        assert not driver.find_element(By.ID, hidden).is_displayed()
    assert not driver.find_elements(By.CSS_SELECTOR, ".choices, .whisker, .verdict")
