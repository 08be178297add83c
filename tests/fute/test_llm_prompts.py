from __future__ import annotations

import pytest

from fute.errors import ConfigError, DataError
from fute.llm.prompts import Template, refuse_variables


def test_text_and_pair_are_filled_in_under_every_name():
    assert Template("A: {{text}} B: {{ text_pair }}").render("one", "two") == "A: one B: two"
    assert Template("{{premise}}/{{hypothesis}}").render("one", "two") == "one/two"
    assert Template("{{question}}/{{context}}/{{question}}").render("one", "two") == "one/two/one"


def test_braces_in_foreign_text_are_never_filled_in_again():
    template = Template("{{text}} | {{text_pair}}")
    assert template.render("{{text_pair}}", "{{text}} {0} %s \\1") == "{{text_pair}} | {{text}} {0} %s \\1"


def test_single_braces_and_json_in_a_template_stay_as_they_are():
    source = '{"a": {"b": "{{text}}"}} ${x} <%= 7*7 %> {0} {x!r}'
    assert Template(source).render("T") == source.replace("{{text}}", "T")


@pytest.mark.parametrize(
    "expression",
    ["{{text.__class__}}", "{{ text|upper }}", "{{text_pair[0]}}", "{{label}}", "{{}}", "{{7*7}}", "{{text\n.x}}"],
)
def test_anything_but_a_plain_known_name_is_refused(expression):
    with pytest.raises(ConfigError, match=r"(?s)prompt p1: .* is no variable of a prompt; only plain names"):
        Template(f"Read {{{{text}}}} and {expression}", "p1")


@pytest.mark.parametrize(
    "part",
    ["{% for c in ().__class__.__base__.__subclasses__() %}", "{# a remark #}", "Premise: {premise}.", "{ text }"],
)
def test_what_another_template_language_would_fill_in_is_refused_and_not_sent(part):
    with pytest.raises(ConfigError, match="prompt p1: .* in its template would be sent as it stands"):
        Template(f"{part} {{{{text}}}}", "p1")


@pytest.mark.parametrize("text", ["Read {{text}} well", "{{text", "{{7*7}}", "{% if x %}", "Of {premise}?"])
def test_messages_that_are_sent_as_they_stand_have_no_variables(text):
    with pytest.raises(ConfigError, match="prompt p1: .* in its system would be sent as it stands"):
        refuse_variables(text, "system", "p1")
    refuse_variables('Answer as {"label": 1}', "system", "p1")
    refuse_variables(None, "system", "p1")


def test_a_placeholder_without_an_end_is_refused():
    with pytest.raises(ConfigError, match="never closed"):
        Template("{{text}} and {{text")


def test_a_template_without_the_text_is_refused():
    with pytest.raises(ConfigError, match="every input would read the same"):
        Template("Is it good? {{text_pair}}")


def test_a_missing_second_text_is_an_error_that_names_the_input():
    template = Template("{{premise}} {{hypothesis}}", "nli")
    assert template.needs_pair
    with pytest.raises(DataError, match=r"prompt nli wants a second text, but this input has none: 'It rains.'"):
        template.render("It rains.")


def test_an_empty_second_text_is_a_second_text():
    assert Template("{{text}}-{{text_pair}}").render("a", "") == "a-"
