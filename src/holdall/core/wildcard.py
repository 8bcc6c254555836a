"""Wildcards as regular expressions: what git's wildmatch.c matches, byte for byte, its corners included.

`*`, `?` and `[...]` never match a slash, `**` between slashes matches any number of names. An expression looks at each
way to match no more than once, so that none takes for ever, whoever wrote it.
"""

from __future__ import annotations

import re
import string
from enum import Enum, auto
from typing import Final

SPECIAL: Final = re.compile(rb"[*?\[\\]")
"""What a glob without wildcards has none of."""

STAR, SLASH, QUOTE = b"*", b"/", b"\\"
_ANY, _SET = b"?", b"["

_CLASSES: Final = {
    b"alnum": string.ascii_letters + string.digits,
    b"alpha": string.ascii_letters,
    b"blank": " \t",
    b"cntrl": "".join(map(chr, range(1, 32))) + "\x7f",
    b"digit": string.digits,
    b"graph": string.ascii_letters + string.digits + string.punctuation,
    b"lower": string.ascii_lowercase,
    b"print": string.ascii_letters + string.digits + string.punctuation + " ",
    b"punct": string.punctuation,
    b"space": " \t\n\r",
    b"upper": string.ascii_uppercase,
    b"xdigit": string.hexdigits,
}
"""As git has them: ASCII only, whatever the locale."""


class _Kind(Enum):
    """What a piece of a glob is."""

    BYTE = auto()
    STAR = auto()
    SLASH = auto()
    WIDE = auto()


def expression(glob: bytes) -> bytes | None:
    """The regular expression of a glob; None if it matches nothing.

    A star takes the first place where what follows it fits, up to the next star: were a later place better, the next
    star could take up the difference. So such a place is never given up again (`(?>...)`). The same goes for `**`.
    """
    start = found.start() if (found := SPECIAL.search(glob)) else len(glob)
    # git takes off the plain start before it looks at **, so that foo**/bar is foo and then **/bar
    pieces = _pieces(glob[start:])
    if pieces is None:
        return None
    blocks = [re.escape(glob[:start])]  # what stands between one ** and the next
    runs = [b""]  # what stands between the stars of one name
    for kind, text in pieces:
        if kind is _Kind.BYTE:
            runs[-1] += text
        elif kind is _Kind.STAR:
            runs.append(b"")
        else:
            blocks[-1] += _joined(runs, b"[^/]*")
            runs = [b""]
            if kind is _Kind.SLASH:
                blocks[-1] += text
            else:
                blocks.append(text)
    blocks[-1] += _joined(runs, b"[^/]*")
    return _joined(blocks, b"")


def _joined(parts: list[bytes], star: bytes) -> bytes:
    """Parts as one expression, each but the first behind a star, and all between the first and the last settled."""
    if len(parts) == 1:
        return parts[0]
    lazy = star and star + b"?"
    return parts[0] + b"".join(b"(?>%b%b)" % (lazy, part) for part in parts[1:-1]) + star + parts[-1]


def _pieces(glob: bytes) -> list[tuple[_Kind, bytes]] | None:
    """A glob in pieces, each with its regular expression; None if it matches nothing."""
    pieces = []
    at = 0
    while at < len(glob):
        char = glob[at : at + 1]
        at += 1
        kind, text = _Kind.BYTE, re.escape(char)
        if char == STAR:
            start = at - 1
            while glob[at : at + 1] == STAR:
                at += 1
            kind, text, at = _stars(glob, start, at)
        elif char == _SET:
            members = _members(glob, at)
            if members is None:
                return None
            text, at = members
        elif char == _ANY:
            text = b"[^/]"
        elif char == QUOTE:
            if at == len(glob):
                return None
            char = glob[at : at + 1]
            text = re.escape(char)
            at += 1
        pieces.append((_Kind.SLASH if char == SLASH else kind, text))
    return pieces


def _stars(glob: bytes, start: int, stop: int) -> tuple[_Kind, bytes, int]:
    """What stars are, and where the glob goes on; several that stand between slashes are wide."""
    if stop - start > 1 and glob[max(0, start - 1) : start] in {b"", SLASH}:
        if stop == len(glob):
            return _Kind.WIDE, b".*", stop
        if glob[stop : stop + 1] == SLASH:
            return _Kind.WIDE, b"(?:[^/]*+/)*?", stop + 1
        if glob[stop : stop + 2] == QUOTE + SLASH:
            return _Kind.WIDE, b"(?:[^/]*+/)+?", stop + 2
    return _Kind.STAR, b"", stop


def _members(glob: bytes, at: int) -> tuple[bytes, int] | None:
    """The bytes that a set matches, as a regular expression, and where the glob goes on; None if it is malformed.

    Args:
        glob: The glob.
        at: Where it stands behind the bracket.
    """
    negated = glob[at : at + 1] in {b"!", b"^"}
    at += negated
    members: set[int] = set()
    previous = 0  # 0 where no range can begin
    first = True
    while first or glob[at : at + 1] != b"]":
        first = False
        char = glob[at : at + 1]
        if char == b"-" and previous and glob[at + 1 : at + 2] not in {b"", b"]"}:
            at += 1 + (glob[at + 1 : at + 2] == QUOTE)
            if at >= len(glob):
                return None
            members.update(range(previous, glob[at] + 1))
            previous = 0
        elif char == _SET and _is_class(glob, at):
            end = glob.index(b"]", at)
            named = _CLASSES.get(glob[at + 2 : end - 1])
            if named is None:
                return None
            members.update(named.encode())
            previous, at = 0, end
        else:
            at += char == QUOTE
            if at >= len(glob):
                return None
            previous = glob[at]
            members.add(previous)
        at += 1
    if negated:
        members = set(range(256)) - members
    members.discard(ord(SLASH))
    text = b"".join(b"\\x%02x" % member for member in sorted(members))
    return (b"[%b]" % text if text else b"(?!)"), at + 1


def _is_class(glob: bytes, at: int) -> bool:
    """Whether `[:name:]` stands here, or what would be one if it had a known name."""
    end = glob.find(b"]", at)
    return glob[at + 1 : at + 2] == b":" and end > at + 2 and glob[end - 1 : end] == b":"
