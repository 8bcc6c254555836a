"""`format=`: plain substitution, and nothing that could forge a line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdall.core.template import check_template, fill
from holdall.errors import TemplateError
from holdall.limits.server import TEMPLATE_BYTES_MAX


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("", ""),
        ("*", "/path"),
        ("http://host*", "http://host/path"),
        ("a*b*c", "a/pathb*c"),
        ("no star", "no star"),
        ("%s {0} ${path} \\1 *", "%s {0} ${path} \\1 /path"),
        ("\N{SNOWMAN} *", "\N{SNOWMAN} /path"),
        ("x" * (TEMPLATE_BYTES_MAX - 1) + "*", "x" * (TEMPLATE_BYTES_MAX - 1) + "/path"),
    ],
)
def test_the_first_star_becomes_the_path_and_nothing_else_is_special(template: str, expected: str) -> None:
    assert fill(check_template(template), "/path") == expected


def test_a_path_with_a_star_is_not_substituted_again() -> None:
    assert fill("a*b*", "*/x") == "a*/xb*"


@pytest.mark.parametrize(
    "template",
    [
        "*\n",
        "*\r\nX-Header: forged",
        "*\t",
        "*\0",
        "*\x7f",
        "*\x1b[31m",
        "*\x85",
        "*\N{LINE SEPARATOR}",
        "*\N{RIGHT-TO-LEFT OVERRIDE}",
        "*\udcff",
        "x" * (TEMPLATE_BYTES_MAX + 1),
        "\N{SNOWMAN}" * (TEMPLATE_BYTES_MAX // 3 + 1),
    ],
    ids=lambda text: ascii(text[:20]),
)
def test_a_template_that_is_too_long_or_could_forge_a_line_is_refused(template: str) -> None:
    with pytest.raises(TemplateError):
        check_template(template)


@given(st.text(st.characters(exclude_categories=())))
def test_any_text_is_a_template_of_one_line_or_is_refused(template: str) -> None:
    try:
        filled = fill(check_template(template), "/path")
    except TemplateError:
        return

    assert len(filled.splitlines()) <= 1
    assert filled.encode().decode() == filled
    assert len(filled) == len(template) + (4 if "*" in template else 0)
