"""What is left out of a tree: what git leaves out, and what only holdall knows of."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdall.core.tree import Type
from holdall.errors import LocalFileError, UsageError
from holdall.limits.snapshot import IGNORE_FILE_BYTES_MAX
from holdall.snapshot.ignore import Ignore
from holdall.snapshot.walk import walk
from support import need_tool

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

FILES = [
    *(b"a", b"b", b"ab", b"abc", b"aab", b"a.c", b".h", b"A", b"1", b"foobar", b"- ", b"^", b"*", b"?", b"{a,b}"),
    *(b"]", b"[", b"a]", b"a[b", b"a\\", b"\\a", b"!a", b"#a", b"a ", b"a  ", b" a", b"a\t", b"a\n", b"a\nb", b"a\r"),
    *(b"\xc3\xa9", b"\xff", b"\xc3", b"x/a", b"x/b", b"x/ab", b"x/.h", b"x/*", b"x/[a]", b"x/\xc3\xa9", b"x/y/a"),
    *(b"x/y/b", b"x/y/z/a", b"x/y/z/ab", b"xa/b", b"y/a", b"y/x/a", b"y/x/b/a", b"foo/bar/baz", b"foo/x/bar"),
    *(b"foobaz/q", b"foo2/bar", b"a.d/a", b"z/keep/a", b"z/keep/a.o", b"z/drop/a"),
]

CASES: list[bytes] = [
    b"a",
    b"/a",
    b"a/",
    b"x",
    b"x/",
    b"/x/",
    b"x/a",
    b"x/a/",
    b"x/y/",
    b"*",
    b"/*",
    b"*/",
    b"/*/",
    b"**",
    b"/**",
    b"**/",
    b"***",
    b"x/*",
    b"x/**",
    b"x/*/",
    b"x/**/",
    b"x/**/a",
    b"x/**/**/a",
    b"**/a",
    b"/**/a",
    b"**/x/a",
    b"**/y/**",
    b"**/**/a",
    b"x/*/a",
    b"x/*/*/a",
    b"*/a",
    b"*a",
    b"a*",
    b"*a*",
    b"a**",
    b"**a",
    b"a**b",
    b"foo**/bar",
    b"fo?**/bar",
    b"/foo**",
    b"foo/**bar",
    b"x/**\\/a",
    b"?",
    b"??",
    b"a?",
    b"x?a",
    b"[ab]",
    b"[!ab]",
    b"[^ab]",
    b"[a-b]",
    b"[b-a]",
    b"[]]",
    b"[]a]",
    b"[!]]",
    b"[!]a]",
    b"[a",
    b"a[",
    b"a[]b",
    b"[]-a]",
    b"[a-]",
    b"[--1]",
    b"[\\]]",
    b"[\\\\]",
    b"a[\\\\-b]",
    b"[\\a-\\b]",
    b"[[]",
    b"[[a]",
    b"a[[]b",
    b"[[:alpha:]]",
    b"[[:digit:][:upper:]]",
    b"[![:alnum:]]",
    b"[[:punct:]]*",
    b"a[[:space:]]",
    b"[[:nothing:]]",
    b"[[:alpha:]",
    b"[[:alpha]",
    b"[:alpha:]",
    b"[[::]]",
    b"[[:]",
    b"x[/]a",
    b"x[!a]a",
    b"\\a",
    b"\\*",
    b"x/\\*",
    b"\\?",
    b"\\[",
    b"\\\\a",
    b"a\\\\",
    b"a\\",
    b"\\",
    b"\\!a",
    b"\\#a",
    b"#a",
    b"!a",
    b"a ",
    b"a\\ ",
    b"a \\ ",
    b"a\\  ",
    b" a",
    b"a\t",
    b"a\\\t",
    b"a\r\nb",
    b"a\\\r",
    b"\xef\xbb\xbfa",
    b"a\0b",
    b"\xc3\xa9",
    b"\xc3?",
    b"[\xc3\xa9]",
    b"[\xc0-\xff]*",
    b"\xff",
    b"{a,b}",
    b"/",
    b"//",
    b"//a",
    b"a//",
    b"x//a",
    b"./a",
    b"x/./a",
    b"x/../a",
    b".",
    b"..",
    b"A",
    b"*\n!a",
    b"*\n!*/\n!a",
    b"*\n!*.c",
    b"/*\n!/x\n/x/*\n!/x/a",
    b"x\n!x/a",
    b"x/*\n!x/y\nx/y/*\n!x/y/z/",
    b"x/**\n!x/y/\n!x/y/a",
    b"foo/**\n!foo/bar\n!foo/bar/baz",
    b"x\n!x",
    b"x\n!x/",
    b"x/\n!x",
    b"!x\nx",
    b"**\n!**/\n!**/a",
    b"*.o\n!z/keep/",
    b"z/*\n!z/keep",
    b"!a\na\n!a",
    b"a*\n!ab\nabc",
]


def git_environment(root: Path) -> dict[str, str]:
    """Without the settings of this user and this machine."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(root),
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_NOSYSTEM": "1",
    }


def new_repository(root: Path) -> Path:
    root.mkdir(exist_ok=True)
    subprocess.run([need_tool("git"), "init", "--quiet", str(root)], check=True, env=git_environment(root))
    return root


def kept_by_git(root: Path) -> set[bytes]:
    listed = subprocess.run(
        [need_tool("git"), "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        check=True,
        env=git_environment(root),
    )
    return {path for path in listed.stdout.split(b"\0") if path}


def kept(root: Path, *, exclude: Sequence[str] = (), take_all: bool = False) -> set[bytes]:
    """What a walk finds, but for directories, of which git keeps none."""
    ignore = Ignore(str(root), exclude=exclude, take_all=take_all)
    found = walk(str(root), ignore=ignore, on_skip=lambda skipped: pytest.fail(str(skipped)))
    return {item.entry.path for item in found if item.entry.type is not Type.DIRECTORY}


def write(root: Path, files: Mapping[bytes, bytes]) -> Path:
    for path, text in files.items():
        whole = os.fsencode(root) + b"/" + path
        os.makedirs(os.path.dirname(whole), exist_ok=True)
        with open(whole, "wb") as file:
            file.write(text)
    return root


@pytest.fixture(scope="module")
def decided_by_git(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, set[bytes]]:
    """A tree with a directory for each case, and what git keeps of it."""
    root = new_repository(tmp_path_factory.mktemp("cases") / "tree")
    for number, text in enumerate(CASES):
        write(root / str(number), {**dict.fromkeys(FILES, b""), b".gitignore": text})
    return root, kept_by_git(root)


@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda number: repr(CASES[number]))
def test_each_pattern_leaves_out_what_git_leaves_out(decided_by_git: tuple[Path, set[bytes]], number: int) -> None:
    root, by_git = decided_by_git
    prefix = b"%d/" % number

    assert kept(root / str(number)) == {path.removeprefix(prefix) for path in by_git if path.startswith(prefix)}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(new_repository(tmp_path_factory.mktemp("any") / "tree"), dict.fromkeys(FILES, b""))


PIECES = st.sampled_from(
    [
        *rb"a b c x y z * ** / / **/ /** ? [ ] ! ^ - \ . foo bar [ab] [!a] [a-c] [[:alpha:]] [: :] # .o".split(),
        *(b" ", b"\t", b"\r", b"\0", b"\xc3", b"\xa9"),
    ]
)
LINES = st.lists(st.lists(PIECES, max_size=8).map(b"".join), max_size=4).map(b"\n".join)


@settings(max_examples=150)
@given(top=LINES, below=LINES, deeper=LINES, info=LINES)
def test_any_ignore_files_leave_out_what_git_leaves_out(
    repository: Path, top: bytes, below: bytes, deeper: bytes, info: bytes
) -> None:
    files = {b".gitignore": top, b"x/.gitignore": below, b"x/y/.gitignore": deeper, b".git/info/exclude": info}
    write(repository, files)

    assert kept(repository) == kept_by_git(repository)


def test_a_deeper_file_comes_before_a_higher_one_as_in_git(tmp_path: Path) -> None:
    root = write(
        new_repository(tmp_path / "tree"),
        {
            b".gitignore": b"*.log\n/sub/a\n",
            b".git/info/exclude": b"*.tmp\n!a.log\n",
            b"a.log": b"",
            b"a.tmp": b"",
            b"sub/.gitignore": b"!keep.log\n!a\n*.c\n!b.tmp\n",
            b"sub/a": b"",
            b"sub/keep.log": b"",
            b"sub/other.log": b"",
            b"sub/b.c": b"",
            b"sub/b.tmp": b"",
            b"sub/c.tmp": b"",
            b"b.c": b"",
            b"sub/deep/keep.log": b"",
            b"sub/deep/b.c": b"",
        },
    )

    assert kept(root) == kept_by_git(root)
    assert {b"sub/keep.log", b"sub/a", b"sub/b.tmp", b"b.c"} < kept(root)
    assert not kept(root) & {b"sub/other.log", b"sub/b.c", b"a.log", b"a.tmp", b"sub/c.tmp"}


def test_what_is_no_file_is_no_ignore_file_as_in_git(tmp_path: Path) -> None:
    root = write(
        new_repository(tmp_path / "tree"), {b"patterns": b"*\n", b"a": b"", b"s/b": b"", b"d/.gitignore/c": b""}
    )
    (root / ".gitignore").symlink_to("patterns")
    (root / "s" / ".gitignore").symlink_to("nowhere")

    assert (
        kept(root)
        == kept_by_git(root)
        == {b"patterns", b"a", b"s/b", b"d/.gitignore/c", b".gitignore", b"s/.gitignore"}
    )


def test_a_symlink_to_a_directory_is_no_directory_as_in_git(tmp_path: Path) -> None:
    root = write(new_repository(tmp_path / "tree"), {b"real/a": b"", b".gitignore": b"link/\nreal/\n"})
    (root / "link").symlink_to("real")

    assert kept(root) == kept_by_git(root) == {b"link", b".gitignore"}


def test_holdallignore_has_the_last_word_in_its_directory(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            b".gitignore": b"*.big\nsecret\n",
            b".holdallignore": b"!secret\ncache/\n",
            b"a.big": b"",
            b"secret": b"",
            b"cache/a": b"",
            b"sub/.gitignore": b"!b.big\n",
            b"sub/.holdallignore": b"b.big\n",
            b"sub/b.big": b"",
            b"sub/secret": b"",
        },
    )

    sub = {b"sub/.gitignore", b"sub/.holdallignore", b"sub/secret"}
    assert kept(root) == {b".gitignore", b".holdallignore", b"secret"} | sub


def test_the_command_line_comes_before_every_file(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            b".gitignore": b"*.log\n",
            b"a.log": b"",
            b"b.log": b"",
            b"c": b"",
            b"d/c": b"",
            b"e/.gitignore": b"!c\n",
            b"e/c": b"",
        },
    )

    assert kept(root, exclude=["!a.log", "c", "/d"]) == {b".gitignore", b"a.log", b"e/.gitignore"}


def test_a_name_that_is_no_text_can_be_excluded(tmp_path: Path) -> None:
    with suppress(OSError):
        root = write(tmp_path, {b"\xff\xfe": b"", b"a": b"", b"\xff": b""})

        assert kept(root, exclude=[os.fsdecode(b"\xff\xfe")]) == {b"a", b"\xff"}
        assert kept(root, exclude=[os.fsdecode(b"\xff*")]) == {b"a"}


def test_on_the_command_line_nothing_is_a_comment_and_spaces_count(tmp_path: Path) -> None:
    root = write(tmp_path, {b"#a#": b"", b"a ": b"", b"a": b""})

    assert kept(root, exclude=["#*#", "a "]) == {b"a"}


@pytest.mark.parametrize("text", ["", "a[", "./a", "a/../b", "a\\", "/", "!"])
def test_a_pattern_of_the_command_line_that_can_match_nothing_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match="Nothing can match") as refused:
        Ignore(str(tmp_path), exclude=["a", text])

    assert repr(text) in refused.value.message
    assert refused.value.hint


def test_whatever_is_named_git_is_left_out_at_every_depth(tmp_path: Path) -> None:
    root = write(
        tmp_path, {b".git/config": b"", b"sub/.git/config": b"", b"module/.git": b"gitdir: ..\n", b"a.git": b""}
    )

    assert kept(root) == {b"a.git"}
    assert kept(root, exclude=["!.git"]) == {b"a.git"}


def test_taking_all_takes_git_and_what_ignore_files_name_but_not_what_is_excluded(tmp_path: Path) -> None:
    files = {
        b".git/config": b"",
        b".git/info/exclude": b"a\n",
        b".gitignore": b"*\n",
        b"a": b"",
        b"b": b"",
        b"s/.git/c": b"",
    }
    root = write(tmp_path, files)

    assert kept(root, take_all=True) == set(files)
    assert kept(root, take_all=True, exclude=["b", ".git"]) == {b".gitignore", b"a"}


def test_a_tree_that_is_not_there_is_no_trouble_yet(tmp_path: Path) -> None:
    Ignore(str(tmp_path / "missing"))
    (tmp_path / "file").touch()
    Ignore(str(tmp_path / "file"))


@pytest.mark.parametrize("name", [b"sub/.gitignore", b".holdallignore", b".git/info/exclude"])
def test_an_ignore_file_that_is_too_long_is_refused(tmp_path: Path, name: bytes) -> None:
    root = write(tmp_path, {name: b"#" * IGNORE_FILE_BYTES_MAX})
    kept(root)
    write(tmp_path, {name: b"#" * (IGNORE_FILE_BYTES_MAX + 1)})

    with pytest.raises(LocalFileError, match="longer than an ignore file") as refused:
        kept(root)

    assert name.decode() in refused.value.message
    assert kept(root, take_all=True) == {name}
