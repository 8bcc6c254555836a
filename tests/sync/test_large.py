"""Large files: a pointer in the history, the bytes in a store, on real folders and a real server."""

from __future__ import annotations

import hashlib
import os
import re
import resource
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import urlopen

import msgspec
import pytest
from folders import files, git

from holdall.core.address import Address
from holdall.stores.opening import open_store
from holdall.sync.folder import Folder
from holdall.sync.large import FROM_STORE, NO_STORE, TO_STORE, Large, configure
from holdall.sync.left_out import waiting
from holdall.sync.pointer import Pointer, parse
from holdall.sync.transfer import Mover
from support import running_server, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from holdall.stores.base import Store
    from holdall.sync.outcome import Outcome
    from support import Server

CAP = 1000
FILM = bytes(range(256)) * 40


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("store") / "data", "--durability", "os") as running:
        yield running


@dataclass
class Node:
    """A folder, and what `holdall sync push` and `pull` do for it beside git."""

    folder: Folder

    @property
    def root(self) -> Path:
        return Path(self.folder.worktree)

    def look(self, changed: set[str] | None = None) -> Outcome:
        return self.folder.reconcile(changed=changed)

    def move(self, *, said: list[str] | None = None) -> str:
        """One going-over of what waits, and the round that follows it."""
        told: list[str] = []
        words = [] if said is None else said
        mover = Mover(self.folder, opened, gives=lambda: True, say=words.append, tell=told.append)
        error = mover.run()
        if told:
            self.look(set(told))
        return error

    def work(self) -> Outcome:
        self.look()
        assert self.move() == ""
        return self.look()

    def files(self) -> dict[str, bytes]:
        return files(self.folder)

    def pointer(self, path: str) -> Pointer | None:
        return parse(self.folder.show(str(self.folder.head()), path))

    def git(self, *words: str) -> str:
        return git(self.folder, *words)


async def opened(name: str) -> Store:
    return await open_store(name, create=False)


@pytest.fixture
def make(tmp_path: Path, server: Server) -> Callable[..., Node]:
    """Makes a node with some files, and with the store unless it is told another."""

    def node(name: str, files: dict[str, bytes] | None = None, *, store: str | None = None, cap: int = CAP) -> Node:
        root = tmp_path / name / "tree"
        root.mkdir(parents=True)
        made = Node(Folder.create(str(root), node=name, size_max_bytes=cap))
        configure(made.folder, store=server.url if store is None else store)
        for path, data in (files or {}).items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(data)
        return made

    return node


def push(one: Node, other: Node) -> None:
    ref = f"refs/sync/{one.folder.node}/main"
    one.git("push", "--quiet", other.folder.git_dir, f"{ref}:{ref}")


def exchange(*nodes: Node) -> None:
    """Has everything go to everybody until all have the same."""
    for _ in range(6):
        for node in nodes:
            node.work()
        for node in nodes:
            for other in nodes:
                if other is not node and node.folder.head() is not None:
                    push(node, other)
        for node in nodes:
            node.work()
        if len({node.folder.head() for node in nodes}) == 1:
            return
    pytest.fail("they do not become equal")


def parse_address(text: str) -> Address:
    return Address.parse_text(text)


def counted(server: Server, what: str) -> int:
    """How many bytes the server has `sent` or `received` so far."""
    with urlopen(f"{server.url}/-/metrics") as answer:
        text = answer.read().decode()
    return int(float(re.findall(rf"^holdall_{what}_bytes\S* ([\d.e+]+)$", text, re.MULTILINE)[0]))


def in_store(server: Server, data: bytes) -> bool:
    return (server.data / f"{hashlib.sha256(data).hexdigest()}.tig").exists()


def test_a_large_file_is_a_pointer_in_the_history_and_a_plain_blob_in_the_store(
    make: Callable[..., Node], server: Server
) -> None:
    alpha, beta = make("alpha", {"film": FILM, "note": b"small\n"}), make("beta")
    first = alpha.look()

    assert first.skipped == {"film": TO_STORE}
    assert alpha.git("ls-tree", "--name-only", "main") == "note\n"

    exchange(alpha, beta)
    digest = hashlib.sha256(FILM).hexdigest()

    assert alpha.git("show", "main:film") == (
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {len(FILM)}\n"
    )
    assert urlopen(f"{server.url}/{digest}.tig").read() == FILM
    assert beta.files() == alpha.files() == {"film": FILM, "note": b"small\n"}
    assert not beta.look().committed
    assert os.listdir(Path(beta.folder.git_dir, "holdall", "staged")) == []


def test_a_file_that_reads_like_a_pointer_is_kept_as_what_it_is(make: Callable[..., Node], server: Server) -> None:
    text = Pointer(parse_address("ab" * 32), 5).text
    alpha, beta, bare = make("alpha", {"fake": text}), make("beta"), make("bare", {"fake": text}, store="")
    exchange(alpha, beta)

    assert in_store(server, text)
    assert alpha.pointer("fake") == Pointer(parse_address(hashlib.sha256(text).hexdigest()), len(text))
    assert beta.files() == {"fake": text}
    assert "pointer" in bare.look().skipped["fake"]
    assert bare.folder.head() is None


def test_a_rename_moves_no_bytes(make: Callable[..., Node], server: Server) -> None:
    film = FILM + b"rename"
    alpha, beta = make("alpha", {"film": film, "other": b"x"}), make("beta")
    exchange(alpha, beta)
    inode, before = (beta.root / "film").stat().st_ino, counted(server, "received")
    (alpha.root / "film").rename(alpha.root / "movie")
    alpha.work()
    push(alpha, beta)
    beta.look()

    assert beta.files() == {"movie": film, "other": b"x"}
    assert (beta.root / "movie").stat().st_ino == inode
    assert counted(server, "received") - before < len(film)


def test_what_was_large_may_become_a_program_or_small_or_gone(make: Callable[..., Node]) -> None:
    alpha, beta = make("alpha", {"film": FILM, "b": FILM + b"b"}), make("beta")
    exchange(alpha, beta)
    (alpha.root / "film").chmod(0o755)
    inode = (beta.root / "film").stat().st_ino
    exchange(alpha, beta)

    assert (beta.root / "film").stat().st_mode & 0o111
    assert (beta.root / "film").stat().st_ino == inode

    (alpha.root / "film").write_bytes(b"small")
    (alpha.root / "b").unlink()
    exchange(alpha, beta)

    assert beta.files() == alpha.files() == {"film": b"small"}
    assert alpha.pointer("film") is None


def test_two_changes_of_a_large_file_at_once_are_both_kept(make: Callable[..., Node]) -> None:
    alpha, beta = make("alpha", {"film": FILM}), make("beta")
    exchange(alpha, beta)
    (alpha.root / "film").write_bytes(FILM + b"by alpha")
    (beta.root / "film").write_bytes(FILM + b"by beta")
    exchange(alpha, beta)

    assert alpha.files() == beta.files()
    assert sorted(alpha.files().values()) == [FILM + b"by alpha", FILM + b"by beta"]
    assert len(alpha.folder.conflicts()) == 1


def test_without_a_store_a_large_file_of_others_is_named_and_later_comes(
    make: Callable[..., Node], server: Server
) -> None:
    alpha, beta = make("alpha", {"film": FILM, "note": b"1"}), make("beta", store="")
    alpha.work()
    push(alpha, beta)
    beta.work()

    assert beta.files() == {"note": b"1"}
    assert waiting(beta.folder) == ({"film": NO_STORE}, "")
    assert not beta.look().committed

    configure(beta.folder, store=server.url)
    beta.work()

    assert beta.files() == alpha.files()
    assert beta.folder.head() == alpha.folder.head()


def test_what_the_user_does_to_a_file_that_waits_is_not_lost(make: Callable[..., Node], server: Server) -> None:
    alpha, beta = make("alpha", {"film": FILM, "gone": b"old"}), make("beta", store="")
    alpha.work()
    push(alpha, beta)
    beta.look()
    (beta.root / "film").write_bytes(b"beta's own")
    beta.look()
    configure(beta.folder, store=server.url)
    exchange(alpha, beta)

    assert alpha.files() == beta.files()
    assert sorted(alpha.files().values()) == sorted([FILM, b"beta's own", b"old"])


def test_caps_that_differ_make_no_edits(make: Callable[..., Node]) -> None:
    middle = b"m" * 5000
    small, large = make("small", {"a": FILM}, cap=CAP), make("large", {"b": middle}, cap=50_000)
    exchange(small, large)
    heads = {small.folder.head(), large.folder.head()}
    for node in (small, large):
        Path(node.folder.git_dir, "holdall", "files").unlink(missing_ok=True)
        Path(node.folder.git_dir, "holdall", "large").unlink(missing_ok=True)
        again = Node(Folder.open(node.folder.worktree))
        again.work()
        heads.add(again.folder.head())

    assert len(heads) == 1
    assert small.files() == large.files() == {"a": FILM, "b": middle}
    assert small.pointer("b") is None


def test_a_blob_that_is_missing_or_wrong_is_told_and_nothing_wrong_is_placed(
    make: Callable[..., Node], server: Server
) -> None:
    data = FILM + b"damaged"
    alpha, beta = make("alpha", {"film": data, "note": b"1"}), make("beta")
    alpha.work()
    push(alpha, beta)
    stored = server.data / f"{hashlib.sha256(data).hexdigest()}.tig"
    stored.unlink()
    beta.look()

    assert "does not have its bytes" in beta.move()
    assert waiting(beta.folder)[0]["film"].startswith(FROM_STORE)

    stored.write_bytes(data[:-1] + b"x")
    beta.move()

    assert beta.files() == {"note": b"1"}
    assert "film" in waiting(beta.folder)[0]

    stored.write_bytes(data)
    beta.work()

    assert beta.files() == alpha.files()
    assert waiting(beta.folder) == ({}, "")


def test_small_files_go_on_while_the_store_is_away(make: Callable[..., Node]) -> None:
    alpha = make("alpha", {"film": FILM, "note": b"1"}, store="http://127.0.0.1:9")
    alpha.look()
    error = alpha.move()

    assert "store cannot be used" in error
    assert alpha.git("ls-tree", "--name-only", "main") == "note\n"
    assert waiting(alpha.folder) == ({"film": TO_STORE}, error)


def test_a_file_that_changes_while_it_is_stored_is_not_believed(make: Callable[..., Node]) -> None:
    alpha = make("alpha", {"film": FILM * 3000})
    alpha.look()
    begun, over = threading.Event(), threading.Event()

    def write() -> None:
        with (alpha.root / "film").open("r+b") as file:
            while not over.wait(0.002):
                file.write(os.urandom(8))
                file.flush()
                begun.set()

    writer = threading.Thread(target=write)
    writer.start()
    begun.wait()
    try:
        error = alpha.move()
    finally:
        over.set()
        writer.join()

    assert "changes while it is read" in error
    assert alpha.folder.head() is None

    alpha.work()

    assert alpha.pointer("film") is not None


def test_what_the_store_lost_is_stored_again(make: Callable[..., Node], server: Server) -> None:
    data = FILM + b"lost"
    alpha = make("alpha", {"film": data})
    alpha.work()
    head = alpha.folder.head()
    (server.data / f"{hashlib.sha256(data).hexdigest()}.tig").unlink()
    large = Large(alpha.folder.repository)
    large.change(lambda ledger: msgspec.structs.replace(ledger, kept=1))
    alpha.move()
    alpha.work()

    assert in_store(server, data)
    assert alpha.folder.head() == head


def test_another_store_gets_what_the_history_names(make: Callable[..., Node], tmp_path: Path) -> None:
    alpha = make("alpha", {"film": FILM})
    alpha.work()
    head = alpha.folder.head()
    (tmp_path / "other").mkdir()
    configure(alpha.folder, store=str(tmp_path / "other"))
    alpha.work()

    assert (tmp_path / "other" / f"{hashlib.sha256(FILM).hexdigest()}.tig").read_bytes() == FILM
    assert alpha.folder.head() == head


def test_a_very_large_file_takes_little_memory(make: Callable[..., Node]) -> None:
    size_bytes = 200_000_000
    alpha, beta = make("alpha"), make("beta")
    with (alpha.root / "film").open("wb") as file:
        file.truncate(size_bytes)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    alpha.work()
    push(alpha, beta)
    beta.work()
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before

    assert (beta.root / "film").stat().st_size == size_bytes
    assert grown_kib < 60_000


def test_a_fetch_that_was_killed_goes_on(make: Callable[..., Node], server: Server) -> None:
    data = os.urandom(3_000_000)
    alpha, beta = make("alpha", {"film": data}), make("beta")
    alpha.work()
    push(alpha, beta)
    beta.look()
    staged = Path(beta.folder.git_dir, "holdall", "staged")
    staged.mkdir()
    part = staged / f"{hashlib.sha256(data).hexdigest()}.part"
    part.write_bytes(data[:2_000_000])
    before = counted(server, "sent")
    beta.work()

    assert beta.files() == {"film": data}
    wait_until(lambda: counted(server, "sent") - before >= 1_000_000, "what was sent is counted")
    assert counted(server, "sent") - before < 1_500_000


def test_random_lives_with_large_files_end_equal_and_complete() -> None:
    count = 100 if "HOLDALL_TEST_LONG" in os.environ else 2
    command = [sys.executable, str(Path(__file__).with_name("fleet_large.py")), "--count", str(count)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)

    assert ran.returncode == 0, ran.stderr
