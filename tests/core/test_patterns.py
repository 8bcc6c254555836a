"""The pattern language by itself; that it is git's own is shown in tests/snapshot/test_ignore.py."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdall.core.patterns import Pattern, PatternList, parse, parse_lines
from holdall.core.wildcard import expression


def left_out(text: bytes, path: bytes, *, is_directory: bool = False, directory: bytes = b"") -> bool | None:
    return PatternList(parse_lines(text), directory).verdict(path, path.rpartition(b"/")[2], is_directory=is_directory)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"name", Pattern(b"name", takes_back=False, only_directories=False, by_name=True)),
        (b"!name/", Pattern(b"name", takes_back=True, only_directories=True, by_name=True)),
        (b"/name", Pattern(b"name", takes_back=False, only_directories=False, by_name=False)),
        (b"a/b/", Pattern(b"a/b", takes_back=False, only_directories=True, by_name=False)),
        (b"**/name", Pattern(b"name", takes_back=False, only_directories=False, by_name=True)),
        (b"**/a/b", Pattern(b"**/a/b", takes_back=False, only_directories=False, by_name=False)),
        (b"", Pattern(b"", takes_back=False, only_directories=False, by_name=True)),
        (b"#name ", Pattern(b"#name ", takes_back=False, only_directories=False, by_name=True)),
    ],
)
def test_a_pattern_is_taken_apart(text: bytes, expected: Pattern) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"a\nb", [b"a", b"b"]),
        (b"a\r\nb\r\n", [b"a", b"b"]),
        (b"\xef\xbb\xbfa\n", [b"a"]),
        (b"# a\n\n  \n#b\nc # d\n", [b"c # d"]),
        (b"a  \nb\\ \nc\\  \nd\\\\ \n e\n", [b"a", b"b\\ ", b"c\\ ", b"d\\\\", b" e"]),
        (b"a\t\n", [b"a\t"]),
        (b"a\0b\n", [b"a"]),
        (b"!\n/\n!/\n", []),
    ],
)
def test_the_lines_of_a_file_are_patterns(text: bytes, expected: list[bytes]) -> None:
    assert [pattern.glob for pattern in parse_lines(text)] == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [(b"*.o", True), (b"*.o\n!keep.o", False), (b"!keep.o\n*.o", True), (b"*.c", None), (b"", None)],
)
def test_the_last_pattern_that_matches_decides(text: bytes, expected: bool | None) -> None:
    assert left_out(text, b"src/keep.o") is expected


def test_paths_are_compared_from_the_directory_of_the_list() -> None:
    assert left_out(b"/a/b", b"sub/a/b", directory=b"sub/") is True
    assert left_out(b"/a/b", b"sub/x/a/b", directory=b"sub/") is None
    assert left_out(b"sub/a", b"sub/a", directory=b"sub/") is None


def test_a_pattern_for_directories_says_nothing_of_files() -> None:
    assert left_out(b"build/", b"build", is_directory=True) is True
    assert left_out(b"build/", b"build") is None


@pytest.mark.parametrize(
    "text",
    [b"", b"!", b"/", b"a[", b"a\\", b"./a", b"a/../b", b"a//b", b"//", b"/tmp/./a", b"..", b"[[:nothing:]]", b"a[z-"],
)
def test_a_pattern_that_can_match_nothing_is_known(text: bytes) -> None:
    assert parse(text).is_hopeless


@pytest.mark.parametrize("text", [b"a", b"*", b"**", b"a/b", b"/a", b"a/", b"[a]", b"...", b".a", b"\\[", b"#"])
def test_a_pattern_that_can_match_is_not_called_hopeless(text: bytes) -> None:
    assert not parse(text).is_hopeless


DEEP = b"/".join([b"a"] * 2000)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("glob", "path"),
    [
        (b"*a" * 100 + b"*b", b"a" * 255),
        (b"?*" * 100 + b"[!a]", b"a" * 255),
        (b"x/" + b"*a" * 100 + b"*b", b"x/" + b"a" * 255),
        (b"**/a/" * 100 + b"b", DEEP),
        (b"**/*a*/" * 100 + b"*b*", DEEP),
        (b"**\\/a/" * 100 + b"b", DEEP),
        (b"*/" * 1000 + b"b", DEEP),
        (b"**/" * 500 + b"b/c", DEEP),
        (b"a**/" * 100 + b"b", DEEP),
    ],
    ids=lambda value: repr(value[:12]),
)
def test_no_pattern_takes_for_ever(glob: bytes, path: bytes) -> None:
    assert left_out(glob, path) is None


@given(st.binary(max_size=60) | st.text("a/*?[]!^-\\:.").map(str.encode))
def test_any_text_is_a_pattern(text: bytes) -> None:
    patterns = parse_lines(text)

    assert PatternList(patterns).verdict(b"a/b", b"b", is_directory=False) in {True, False, None}


@given(st.binary(min_size=1, max_size=30).filter(lambda name: not set(name) & set(b"/\0")))
def test_a_quoted_name_matches_itself_alone(name: bytes) -> None:
    text = expression(b"".join(b"\\%c" % byte for byte in name))

    assert text is not None
    assert re.fullmatch(text, name, re.DOTALL)
    assert not re.fullmatch(text, name + b"x", re.DOTALL)
    assert not re.fullmatch(text, name + b"\n", re.DOTALL)
