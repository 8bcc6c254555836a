"""Large files between two hosts, by hand and by their daemons, as a user meets them."""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from trial import say
from watched import Watched, watched

from holdall.limits.sync import SYNC_BACKOFF_SECONDS_MAX
from support import DEADLINE_SECONDS, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FILM = bytes(range(256)) * 40


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hosts")


@pytest.fixture(scope="module")
def pair(place: Path) -> Iterator[list[Watched]]:
    with watched(place, "alpha", "beta", daemons=False) as made:
        yield made


def status(one: Watched, code: int | None = 0) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(say(one.host, "holdall sync status --json", code=code))
    return found


def stored(place: Path, data: bytes) -> Path:
    return place / "store" / f"{hashlib.sha256(data).hexdigest()}.tig"


def test_by_hand(pair: list[Watched], place: Path) -> None:
    alpha, beta = pair
    (alpha.root / "film").write_bytes(FILM)

    assert "files above 50,000,000 bytes: left out" in say(alpha.host, "holdall sync store")

    store = place / "store"
    again = f"--node alpha --address {alpha.host.address} --port {alpha.host.port}"
    said = say(alpha.host, f"holdall sync bootstrap ~/myrepo {again} --store {store} --max-size 1kB")
    shown = json.loads(say(alpha.host, "holdall sync store --json"))

    assert "'film' is stored, 10,240 bytes." in said
    assert shown == {"store": str(store), "size_max_bytes": 1000, "waiting": {}, "store_error": None}
    assert (alpha.host.home / ".git.myrepo/holdall/config.toml").stat().st_mode & 0o077 == 0

    say(alpha.host, "holdall sync push")

    assert "film" not in beta.files()
    assert "holdall sync store" in status(beta, code=1)["waiting"]["film"]

    say(beta.host, f"holdall sync store {store}")

    assert beta.files()["film"] == FILM
    assert status(beta)["waiting"] == {}

    (beta.root / "film").write_bytes(b"a note")
    say(beta.host, "holdall sync push")

    assert alpha.files()["film"] == b"a note"

    first = say(alpha.host, "holdall sync log film").splitlines()[-1].split()[0]
    digest = say(alpha.host, f"holdall sync show {first} film | sha256sum").split()[0]
    shown = json.loads(say(alpha.host, f"holdall sync show {first} film --json"))

    assert digest == hashlib.sha256(FILM).hexdigest()
    assert shown == {"path": "film", "address": hashlib.sha256(FILM).hexdigest(), "size_bytes": len(FILM)}

    say(alpha.host, f"holdall sync restore --at {first} film && holdall sync push")

    assert alpha.files()["film"] == FILM

    say(beta.host, "holdall sync pull")
    (alpha.root / "film").write_bytes(FILM + b"by alpha")
    (beta.root / "film").write_bytes(FILM[:-1])
    say(alpha.host, "holdall sync push")
    say(beta.host, "holdall sync push && holdall sync pull")
    say(alpha.host, "holdall sync pull")

    assert alpha.files() == beta.files()
    assert {FILM + b"by alpha", FILM[:-1]} <= set(alpha.files().values())

    said = say(alpha.host, "holdall sync conflicts diff film")

    assert "10,239" in said
    assert "10,248" in said

    say(alpha.host, "holdall sync conflicts take film mine")

    assert alpha.files()["film"] == FILM + b"by alpha"
    assert "--none" in say(alpha.host, "holdall sync store x --none", code=2)
    assert "1 GiB" in say(alpha.host, "holdall sync store --max-size 2GiB", code=2)


def test_by_daemons(pair: list[Watched], place: Path) -> None:
    alpha, beta = pair
    for one in pair:
        say(one.host, f"holdall sync store {place / 'store'} --max-size 1kB")
        one.watch()
    try:
        big = os.urandom(1 << 16)
        (alpha.root / "new").write_bytes(big)
        wait_until(lambda: beta.files().get("new") == big, f"it comes: {alpha.said()} {beta.said()}")

        assert stored(place, big).exists()

        os.chmod(place / "store", 0)
        (place / "store").rename(place / "away")
        (alpha.root / "later").write_bytes(big[1:])
        (alpha.root / "small").write_bytes(b"small")
        wait_until(lambda: beta.files().get("small") == b"small", "small files go on")
        wait_until(lambda: bool(status(alpha, code=None)["store_error"]), "the store is missed")

        assert "later" in status(alpha, code=1)["waiting"]

        (place / "away").rename(place / "store")
        os.chmod(place / "store", 0o755)
        # The longer the store was away, the longer may pass until it is tried again.
        seconds = DEADLINE_SECONDS + SYNC_BACKOFF_SECONDS_MAX
        wait_until(
            lambda: beta.files().get("later") == big[1:], f"it comes later: {alpha.said()} {beta.said()}", seconds
        )

        assert [one.stop() for one in pair] == [0, 0]
    finally:
        for one in pair:
            one.stop()
            say(one.host, "holdall sync store --none --max-size 50MB")
