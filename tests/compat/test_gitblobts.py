"""gitblobts as it was published and holdall.timeline, on each other's repositories: the same calls, the same results.

What is different on purpose is in the section of that name in docs/timeline.md, and tested at the end.
"""

from __future__ import annotations

import http.server
import math
import os
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager
from itertools import groupby
from typing import TYPE_CHECKING, Any

import pytest
from bench.process import BenchError
from bench.timeline import processes
from bench.timeline.processes import ORIGINAL, OURS, Package, clones, git, git_environment, package, text_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support import need_tool

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Found = list[list[Any]]

KEY = "JVGmuw3rwntCc7dcQHJ5q1noUs62ydR0Nw8HpyllKn8="
TIMES = [0, 0.0, 1, 1.0, -1, -1.5, 1e-9, -1e-9, 1545000000.123456, 1545000000.123456, 253402300800, 1e13, -1e13]
"""Seconds: zero, before 1970, equal ones, the year 10000 and far beyond."""


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    need_tool("git")
    return git_environment(str(tmp_path_factory.mktemp("home")))


@pytest.fixture(scope="session")
def original(environment: dict[str, str]) -> Iterator[Package]:
    try:
        processes.original_python()
    except BenchError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{error}")
        pytest.skip(f"gitblobts cannot be installed beside: {error}")
    with package(ORIGINAL, environment) as running:
        yield running


@pytest.fixture(scope="session")
def ours(environment: dict[str, str]) -> Iterator[Package]:
    with package(OURS, environment) as running:
        yield running


def read(by: Package, path: str, *, call: Any = None, **options: Any) -> Found:
    """What a package finds in a repository; all of it, unless the call says otherwise."""
    by.do("open", path=path, **options)
    found: Found = by.do("get", **(call or {}))["blobs"]
    return found


def without_ties(found: Found) -> Found:
    """A result in which the order of equal times, which follows the random part of their names, does not count."""
    return [each for _, tied in groupby(found, key=lambda row: row[0]) for each in sorted(tied)]


@pytest.mark.parametrize("key", [None, KEY], ids=["no key", "key"])
@pytest.mark.parametrize("compression", [None, "bz2", "gzip", "lzma"])
def test_each_reads_what_the_other_wrote(
    original: Package, ours: Package, tmp_path: Path, compression: str | None, key: str | None
) -> None:
    theirs, mine = clones(str(tmp_path), "theirs", "mine")
    blobs = [os.urandom(number * 7) for number in range(len(TIMES))]
    options = {"compression": compression, "key": key}
    for by, path in ((original, theirs), (ours, mine)):
        by.do("open", path=path, **options)
        by.do("get", pull=True)
        by.do("add_all", blobs=[text_of(blob) for blob in blobs], timestamps=TIMES)
        by.do("add", blob=text_of(b"one more"), timestamp=2)

    everything = {"call": {"pull": True}, **options}
    found = [without_ties(read(by, path, **everything)) for by, path in ((original, theirs), (ours, mine))]

    assert found[0] == found[1]
    assert [when for when, _ in found[0]] == sorted(2 * [*map(float, TIMES), 2.0])
    assert sorted(blob for _, blob in found[0]) == sorted(2 * [*map(text_of, blobs), text_of(b"one more")])
    assert without_ties(read(original, mine, **options)) == found[0]
    assert without_ties(read(ours, theirs, **options)) == found[0]


moments = st.one_of(
    st.sampled_from(TIMES),
    st.integers(-5, 5),
    st.floats(-2e9, 2e10, allow_nan=False),
    st.builds(lambda seconds: {"gmtime": seconds}, st.integers(-(10**9), 10**10)),
    st.builds(lambda seconds: {"localtime": seconds}, st.integers(0, 10**10)),
    st.sampled_from(
        [
            "2018-12-31 23:59:59.25",
            "2018-12-17 06:40:00.123457",
            "1969-07-20T20:17:40Z",
            "March 5 2019 6pm EST",
            "5 May 2018",
        ]
    ),
)
bounds = st.one_of(moments, st.none(), st.sampled_from([math.inf, -math.inf, math.nan]))
batches = st.lists(st.tuples(st.binary(max_size=20), moments), max_size=5)
spans = st.fixed_dictionaries({}, optional={"start_time": bounds, "end_time": bounds})


@settings(max_examples=6, suppress_health_check=list(HealthCheck))
@given(history=st.lists(st.tuples(batches, st.lists(spans, max_size=3)), min_size=1, max_size=3), data=st.data())
def test_the_same_calls_have_the_same_results(
    original: Package,
    ours: Package,
    history: list[tuple[list[tuple[bytes, Any]], list[dict[str, Any]]]],
    data: st.DataObject,
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        theirs, mine = (clones(f"{folder}/{name}", "clone")[0] for name in (ORIGINAL, "holdall"))
        for by, path in ((original, theirs), (ours, mine)):
            by.do("open", path=path)
        for batch, asked in history:
            times = [when for _, when in batch][: data.draw(st.sampled_from([None, 1]))]
            calls = {"blobs": [text_of(blob) for blob, _ in batch], "timestamps": times}
            assert original.ask("add_all", **calls) == ours.ask("add_all", **calls) == {}
            exact = [row[0] for row in original.do("get")["blobs"]]
            edges = st.sampled_from(exact) if exact else bounds
            for span in [*asked, {"start_time": data.draw(edges), "end_time": data.draw(edges)}]:
                found = [without_ties(by.do("get", **span)["blobs"]) for by in (original, ours)]
                assert found[0] == found[1], span
        for span in ({}, {"start_time": math.inf, "end_time": -math.inf}):
            for path in (theirs, mine):
                found = [without_ties(read(by, path, call=span)) for by in (original, ours)]
                assert found[0] == found[1], (path, span)


def test_a_time_in_words_finds_to_the_nanosecond_what_either_stored_with_it(
    original: Package, ours: Package, tmp_path: Path
) -> None:
    theirs, mine = clones(str(tmp_path), "theirs", "mine")
    words = [f"2018-12-17 06:40:00.{123457 + number * 98765}" for number in range(6)]
    original.do("open", path=theirs)
    original.do("add_all", blobs=["AA=="] * 6, timestamps=words)
    ours.do("open", path=mine)
    ours.do("get", pull=True)
    ours.do("add_all", blobs=["AA=="] * 6, timestamps=words)
    original.do("get", pull=True)

    for by in (original, ours):
        assert [len(by.do("get", start_time=each, end_time=each)["blobs"]) for each in words] == [2] * 6


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ("add", {"blob": "", "timestamp": math.inf}),
        ("add", {"blob": "", "timestamp": math.nan}),
        ("add", {"blob": "", "timestamp": [1]}),
        ("get", {"start_time": [1]}),
        ("get", {"end_time": [1]}),
    ],
)
def test_wrong_use_raises_the_same_exceptions(
    original: Package, ours: Package, tmp_path: Path, call: str, words: dict[str, Any]
) -> None:
    kinds = []
    for by, path in zip((original, ours), clones(str(tmp_path), "theirs", "mine"), strict=True):
        by.do("open", path=path)
        kinds.append(by.ask(call, **words).get("error", []))

    assert kinds[0]
    assert set(kinds[0]) <= set(kinds[1])


STORAGE = """
from typing import Optional
import datetime, gitblobts, json, time, urllib.request

optional_compression_module_name: Optional[str] = [None, 'bz2', 'gzip', 'lzma'][2]
optional_user_saved_encryption_key: Optional[bytes] = [None, gitblobts.generate_key()][1]
store = gitblobts.Store('/path_to/preexisting_git_repo',
                        compression=optional_compression_module_name, key=optional_user_saved_encryption_key)

store.addblob('a byte encoded string'.encode())
store.addblob(b'some bytes' * 1000, timestamp=time.time())
store.addblob(blob=json.dumps([0, 1., 2.2, 3]).encode(),
              timestamp=datetime.datetime.now(datetime.timezone.utc).timestamp())
store.addblob(blob=urllib.request.urlopen('https://i.imgur.com/3GmPd7O.png').read())

store.addblobs(blobs=[b'first blob', b'another blob'])
store.addblobs(blobs=[b'A', b'B'], timestamps=[time.time(), time.time()])
"""

RETRIEVAL = """
from typing import List
from gitblobts import Blob, Store
import time

store = Store('/path_to/preexisting_git_repo', compression='gzip', key=b'JVGmuw3rwntCc7dcQHJ5q1noUs62ydR0Nw8HpyllKn8=')

blobs: List[Blob] = list(store.getblobs(pull=False))
blobs_bytes: List[bytes] = [b.blob for b in blobs]
timestamps: List[float] = [b.timestamp for b in blobs]

blobs2_ascending: List[Blob] = list(store.getblobs(start_time='midnight yesterday', end_time='now'))
blobs2_descending: List[Blob] = list(store.getblobs(start_time='now', end_time='midnight yesterday', pull=True))
blobs3_ascending: List[Blob] = list(store.getblobs(start_time=time.time() - 86400, end_time=time.time(), pull=True))
blobs3_descending: List[Blob] = list(store.getblobs(start_time=time.time(), end_time=time.time() - 86400))
"""

SHOWN = """
import sys
results = (blobs, blobs2_ascending, blobs2_descending, blobs3_ascending, blobs3_descending)
print(*(len(each) for each in results), timestamps == sorted(timestamps), blobs2_descending == blobs[::-1])
print(*sorted(len(each) for each in blobs_bytes))
"""


@contextmanager
def picture_server(picture: bytes) -> Iterator[str]:
    """Where the example's picture can be had without the internet."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(picture)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/3GmPd7O.png"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.usefixtures("original")
@pytest.mark.parametrize("reader", [OURS, ORIGINAL])
def test_the_examples_run_with_the_import_changed_and_nothing_else(
    environment: dict[str, str], tmp_path: Path, reader: str
) -> None:
    """Only the paths of the texts are replaced by the test's own, and the new key by the one that its reader has."""
    (path,) = clones(str(tmp_path), "clone")

    def run(text: str, name: str) -> str:
        if name == OURS:
            text = text.replace(", gitblobts,", ", holdall.timeline as gitblobts,")
            text = text.replace("from gitblobts import", "from holdall.timeline import")
        python = sys.executable if name == OURS else processes.original_python()
        return subprocess.run(
            [python, "-c", text.replace("/path_to/preexisting_git_repo", path)],
            env={**environment, "TZ": "UTC"} | {"no_proxy": "127.0.0.1"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    with picture_server(b"\x89PNG" * 5) as url:
        storage = STORAGE.replace("https://i.imgur.com/3GmPd7O.png", url)
        run(storage.replace("gitblobts.generate_key()", repr(KEY.encode())), OURS)
    shown = run(RETRIEVAL + SHOWN, reader)

    assert shown == "8 8 8 8 8 True True\n1 1 10 12 16 20 21 10000\n"


# What is different: where the original fails, this does not.


def test_files_that_are_no_blobs_and_changes_of_others_are_left_alone(
    original: Package, ours: Package, tmp_path: Path
) -> None:
    theirs, mine = clones(str(tmp_path), "theirs", "mine")
    original.do("open", path=theirs)
    original.do("add", blob=text_of(b"one"), timestamp=1)
    ours.do("open", path=mine)
    ours.do("get", pull=True)
    for name in ("README.md", "notes"):
        (tmp_path / "mine" / name).write_text("somebody's\n")
    git("-C", mine, "add", "README.md")
    ours.do("open", path=mine)
    ours.do("add", blob=text_of(b"two"), timestamp=2)

    both = [[1.0, text_of(b"one")], [2.0, text_of(b"two")]]
    assert original.ask("open", path=mine)["error"][0] == "RepoDirty"
    assert ours.do("get")["blobs"] == both
    assert read(original, theirs, call={"pull": True}) == both


def test_the_first_pull_of_an_empty_clone_brings_what_is_there(
    original: Package, ours: Package, tmp_path: Path
) -> None:
    """gitblobts raises RepoPullError, and finds the files the second time."""
    theirs, mine, other = clones(str(tmp_path), "theirs", "mine", "other")
    original.do("open", path=theirs)
    original.do("add", blob=text_of(b"one"), timestamp=1)

    original.do("open", path=mine)
    assert original.ask("get", pull=True)["error"][0] == "RepoPullError"
    assert read(ours, other, call={"pull": True}) == [[1.0, text_of(b"one")]]


def test_two_who_add_at_once_both_land(original: Package, ours: Package, tmp_path: Path) -> None:
    theirs, mine, other = clones(str(tmp_path), "theirs", "mine", "other")
    original.do("open", path=theirs)
    original.do("add", blob=text_of(b"one"), timestamp=1)
    for number, path in enumerate((mine, other), start=2):
        ours.do("open", path=path)
        ours.do("add", blob=text_of(b"%d" % number), timestamp=number)

    assert [when for when, _ in read(original, theirs, call={"pull": True})] == [1.0, 2.0, 3.0]
    assert [when for when, _ in read(ours, other)] == [1.0, 2.0, 3.0]
