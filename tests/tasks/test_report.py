"""Result tables among Prefect's artifacts."""

from __future__ import annotations

from tasks.report import literal


def test_what_a_server_says_is_no_markdown() -> None:
    said = literal("![x](http://h/p.png) | <img src=x>\n`a` **b** \x1b[31m https://h")
    assert said == (r"\!\[x\]\(http\://h/p.png\) \| \<img src=x\> \`a\` \*\*b\*\* \\x1b\[31m https\://h")
    assert "\n" not in said
