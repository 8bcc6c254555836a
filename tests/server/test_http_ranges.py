"""Range requests over blobs, slots and bursts, small ones and ones that are sent from a file."""

from __future__ import annotations

from email.utils import formatdate
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from asking import fresh_bytes, get, head, put, set_slot, stored
from support import running_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support import Server

SIZES_BYTES = {"small": 1000, "large": 300_001}
KINDS = ("blob", "slot", "burst")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("ranges") / "data", durable=True) as found:
        yield found


@pytest.fixture(scope="module")
def targets(server: Server) -> dict[tuple[str, str], tuple[str, bytes]]:
    """The target to ask for, and the bytes behind it, by kind and size."""
    found = {}
    for size, size_bytes in SIZES_BYTES.items():
        data = fresh_bytes(size_bytes)
        cuts = [0, 7, 7, size_bytes // 3, size_bytes // 2, size_bytes]
        parts = [stored(server, data[start:stop]) for start, stop in pairwise(cuts)]
        burst = stored(server, "".join(f"{part}\n" for part in parts).encode())
        found["blob", size] = stored(server, data), data
        found["slot", size] = set_slot(server, data), data
        found["burst", size] = f"{burst}?burst=1", data
    return found


every_target = pytest.mark.parametrize(
    "which", [(kind, size) for kind in KINDS for size in SIZES_BYTES], ids=lambda which: " ".join(reversed(which))
)
Targets = dict[tuple[str, str], tuple[str, bytes]]


@every_target
@pytest.mark.parametrize(
    ("asked", "part"),
    [
        ("bytes=0-0", slice(0, 1)),
        ("bytes=0-", slice(0, None)),
        ("bytes=5-9", slice(5, 10)),
        ("bytes=0-6", slice(0, 7)),
        ("bytes=6-7", slice(6, 8)),
        ("bytes=300-699", slice(300, 700)),
        ("bytes=999-", slice(999, None)),
        ("bytes=999-999999999", slice(999, None)),
        ("bytes=0-99999999999999999", slice(0, None)),
        ("bytes=-1", slice(-1, None)),
        ("bytes=-700", slice(-700, None)),
        ("bytes=-999999999", slice(0, None)),
        ("bytes = 3 - 4", slice(3, 5)),
    ],
)
def test_the_part_asked_for_is_sent(
    server: Server, targets: Targets, which: tuple[str, str], asked: str, part: slice
) -> None:
    target, data = targets[which]
    first, last, _ = part.indices(len(data))

    answer = get(server, target, Range=asked)

    assert answer.status == 206
    assert answer.headers["content-range"] == f"bytes {first}-{last - 1}/{len(data)}"
    assert answer.headers["content-length"] == str(last - first)
    assert answer.body == data[first:last]


@every_target
@pytest.mark.parametrize("asked", ["bytes={size}-", "bytes={size}-{size}", "bytes=999999999-", "bytes=-0"])
def test_a_part_past_the_end_is_refused_with_the_length(
    server: Server, targets: Targets, which: tuple[str, str], asked: str
) -> None:
    target, data = targets[which]

    answer = get(server, target, Range=asked.format(size=len(data)))

    assert answer.brief == (416, f"The entry has only {len(data)} bytes.\n".encode())
    assert answer.headers["content-range"] == f"bytes */{len(data)}"


@every_target
@pytest.mark.parametrize("asked", ["bytes=9-5", "bytes=a-b", "bytes=-", "items=0-5", "bytes=0-1,4-5", "0-5", ""])
def test_a_range_that_is_none_of_ours_is_passed_over(
    server: Server, targets: Targets, which: tuple[str, str], asked: str
) -> None:
    target, data = targets[which]

    answer = get(server, target, Range=asked)

    assert answer.brief == (200, data)
    assert "content-range" not in answer.headers


@every_target
def test_every_range_of_a_whole_is_the_whole_in_parts(server: Server, targets: Targets, which: tuple[str, str]) -> None:
    target, data = targets[which]
    step = len(data) // 9

    parts = [get(server, target, Range=f"bytes={at}-{at + step - 1}").body for at in range(0, len(data), step)]

    assert b"".join(parts) == data


@pytest.mark.parametrize("kind", KINDS)
def test_a_head_names_the_whole_length_and_that_ranges_are_taken(server: Server, targets: Targets, kind: str) -> None:
    target, data = targets[kind, "large"]

    for answer in (
        head(server, target),
        head(server, target, Range="bytes=1-3"),
        head(server, target, Range="bytes=-0"),
    ):
        assert answer.brief == (200, b"")
        assert answer.headers["content-length"] == str(len(data))
        assert answer.headers["accept-ranges"] == "bytes"
        assert "content-range" not in answer.headers


@pytest.mark.parametrize("kind", ["blob", "slot"])
def test_an_empty_entry_has_no_part(server: Server, kind: str) -> None:
    path = stored(server, b"") if kind == "blob" else set_slot(server, b"")

    assert get(server, path, Range="bytes=0-").status == 416
    assert get(server, path, Range="bytes=-5").status == 416
    assert get(server, path).brief == (200, b"")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES_BYTES)
def test_if_range_gives_the_part_of_the_version_named_and_else_the_whole(
    server: Server, targets: Targets, kind: str, size: str
) -> None:
    target, data = targets[kind, size]
    tag = get(server, target).headers["etag"]

    assert get(server, target, Range="bytes=1-3", If_Range=tag).brief == (206, data[1:4])
    assert get(server, target, Range="bytes=1-3", If_Range='"other"').brief == (200, data)
    assert get(server, target, Range="bytes=1-3", If_Range=f"W/{tag}").brief == (200, data)
    assert get(server, target, Range="bytes=1-3", If_Range=formatdate(0, usegmt=True)).brief == (200, data)


def test_if_range_over_a_slot_that_changed_gives_all_of_the_new_value(server: Server) -> None:
    path = set_slot(server, b"old value")
    tag = get(server, path).headers["etag"]
    put(server, path, b"new value")

    assert get(server, path, Range="bytes=4-", If_Range=tag).brief == (200, b"new value")


def test_a_condition_is_settled_before_the_range(server: Server) -> None:
    path = stored(server, b"0123456789")
    tag = get(server, path).headers["etag"]

    assert get(server, path, Range="bytes=0-3", If_None_Match=tag).status == 304
    assert get(server, path, Range="bytes=0-3", If_Match='"other"').status == 412
    assert get(server, path, Range="bytes=0-3", If_Match=tag).brief == (206, b"0123")
