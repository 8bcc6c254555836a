"""`holdall store`: profiles made, shown, used, kept and brought back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from cli_harness import Holdall

pytest_plugins = ("cli_harness",)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, holdall: Holdall, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without profiles, and a working directory without anything."""
    del holdall
    return new_home(tmp_path, "home", monkeypatch)


def new_home(place: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = place / name
    (home / "work").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / ".cache"))
    monkeypatch.chdir(home / "work")
    return home


def put(holdall: Holdall, store: str, text: str) -> str:
    """Stores a text; its address."""
    with open("text", "w") as file:
        file.write(text)
    result = holdall("put", "text", "--store", store)

    assert (result.code, result.err) == (0, "")
    return result.line


def test_a_profile_is_a_store_by_its_name(holdall: Holdall, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    added = holdall("store", "add", "pair", "one", home / "two", "--json")
    address = put(holdall, "pair", "kept twice")
    monkeypatch.setenv("HOLDALL_STORE", "pair")

    one, two = str(home / "work" / "one"), str(home / "two")
    facts: dict[str, Any] = {
        "name": "pair",
        "spread": "mirror",
        "needed": None,
        "encrypted": False,
        "secret": False,
        "stores": [{"name": one, "url": one, "api_key": False}, {"name": two, "url": two, "api_key": False}],
    }
    assert (added.code, added.json, added.err) == (0, facts, "")
    assert holdall("store", "show", "pair", "--json").json == facts
    assert holdall("store", "ls").lines == [f"pair  mirror over 2 stores: {one}, {two}"]
    assert [holdall("get", address, *words).out for words in [(), ("-s", one), ("-s", two)]] == [b"kept twice"] * 3
    assert [holdall(*words).code for words in [("ls",), ("verify", "pair"), ("doctor",)]] == [0, 0, 0]
    assert holdall("backup", "pair", "./copy").code == 0
    assert holdall("get", address, "--store", "./copy").out == b"kept twice"


def test_a_secret_and_keys_are_where_only_their_owner_reads_them(holdall: Holdall, home: Path) -> None:
    (home / "key").write_text("the key of a provider")
    added = holdall("store", "add", "vault", "http://127.0.0.1:9", "--encrypt", "--api-key-file", home / "key")
    kept = home / ".config" / "holdall" / "stores" / "vault.json"
    secret = json.loads(kept.read_text())["profiles"][0]["secret"]

    assert (added.code, added.out, len(bytes.fromhex(secret))) == (0, b"", 32)
    assert "holdall store export vault" in added.err
    assert (kept.stat().st_mode & 0o777, kept.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert [path.name for path in kept.parent.iterdir()] == ["vault.json"]
    told = [
        holdall("store", "show", "vault"),
        holdall("store", "show", "vault", "--json"),
        holdall("store", "ls"),
        added,
    ]
    assert [word for word in (secret, "provider") for one in told if word in one.out.decode() + one.err] == []
    exported = holdall("store", "export", "vault")
    assert (exported.code, exported.out) == (0, kept.read_bytes())
    assert (
        exported.err == "holdall: What follows is secret: whoever has it can read and change what these stores hold.\n"
    )

    kept.chmod(0o640)
    refused = holdall("ls", "--store", "vault")
    assert (refused.code, f"chmod 600 {kept}" in refused.err) == (2, True)


def test_what_was_exported_restores_everything_in_another_home(
    holdall: Holdall, home: Path, served: str, api_key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "key").write_text(api_key)
    assert holdall("store", "add", "safe", home / "a", served, home / "b", "--spread", "shares",
                   "--api-key-file", home / "key").code == 0  # fmt: skip
    assert holdall("store", "add", "plain", home / "c").code == 0
    address = put(holdall, "safe", "my only copy")
    exported = holdall("store", "export", "--all").out
    new_home(home.parent, "another home", monkeypatch)
    (home / "exported").write_bytes(exported)

    assert holdall("store", "import", home / "exported").lines == ["plain", "safe"]
    assert holdall("get", address, "--store", "safe").out == b"my only copy"
    assert holdall("store", "export", "--all").out == exported
    assert holdall("store", "import", home / "exported").code == 0  # the same again
    (home / "other").write_bytes(exported.replace(b'"needed": 2', b'"needed": 1'))
    refused = holdall("store", "import", home / "other")
    assert (refused.code, refused.err.startswith("holdall: There is a profile safe already.")) == (2, True)
    for wrong in (b"", b"{}", exported[:-9], exported.replace(b"shares", b"mirror"), b'"' + exported):
        (home / "wrong").write_bytes(wrong)
        refused = holdall("store", "import", home / "wrong")
        assert (refused.code, refused.err.count("\n"), "holds no profiles" in refused.err) == (2, 1, True)


def test_removing_a_secret_has_to_be_meant(holdall: Holdall) -> None:
    holdall("store", "add", "open", "a")
    holdall("store", "add", "sealed", "b", "--encrypt")

    refused = holdall("store", "rm", "sealed")
    names = [line.split()[0] for line in holdall("store", "ls").lines]
    removed = [holdall("store", "rm", "open").code, holdall("store", "rm", "sealed", "--yes").code]

    assert (refused.code, "holdall store export sealed" in refused.err) == (2, True)
    assert (names, removed, holdall("store", "ls").out) == (["open", "sealed"], [0, 0], b"")
    assert holdall("ls", "--store", "profile:open").err.startswith("holdall: There is no profile 'open'.")


def test_a_name_that_could_be_two_things_is_refused(holdall: Holdall, home: Path) -> None:
    (home / "work" / "attic").mkdir()
    holdall("store", "add", "attic", home / "elsewhere")
    address = put(holdall, "profile:attic", "in the profile")

    both = holdall("ls", "--store", "attic")
    neither = holdall("put", "text", "--store", "atic")

    assert (both.code, "profile:attic for the one and ./attic" in both.err) == (2, True)
    assert holdall("get", address, "--store", "./attic").code == 3
    assert (neither.code, (home / "work" / "atic").exists()) == (2, False)
    assert "There is neither a profile nor a directory atic." in neither.err
    assert holdall("put", "text", "--store", "./atic").code == 0
    assert holdall("ls", "--store", "atic").lines == [address]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("Pair", "a"), "'Pair' cannot be the name of a profile."),
        (("a.b", "a"), "'a.b' cannot be the name of a profile."),
        (("x", "memory:"), "'memory:' keeps nothing that a profile could find again."),
        (("x", "ftp://a"), "There are no ftp: stores."),
        (("x", "a", "./a"), "A store was named twice."),
        (("x", "a", "taken"), "taken is a profile, and a store is not made of profiles."),
        (("x", "a", "--spread", "mirror"), "To spread over stores takes two or more"),
        (("x", "a", "b", "--needed", "1"), "--needed goes with --spread shares."),
        (("x", "a", "b", "--spread", "shares", "--needed", "3"), "3 of 2 stores cannot be what shares need."),
        (("x", "a", "b", "--spread", "split", "--encrypt"), "--encrypt adds nothing to --spread split"),
        (("taken", "a"), "There is a profile taken already."),
        (("x", "http://a", "http://b", "--api-key-file", "key"), "--api-key-file was given 1 time for 2 servers."),
    ],
)
def test_what_makes_no_profile_is_refused_before_anything_is_made(
    holdall: Holdall, home: Path, words: tuple[str, ...], sentence: str
) -> None:
    (home / "work" / "key").write_text("a key")
    holdall("store", "add", "taken", home / "c")

    refused = holdall("store", "add", *words)

    assert (refused.code, refused.out, refused.err.count("\n")) == (2, b"", 1)
    assert refused.err.startswith(f"holdall: {sentence}")
    assert [path.name for path in (home / "work").iterdir()] == ["key"]
    assert [line.split()[0] for line in holdall("store", "ls").lines] == ["taken"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("commit", ".", "--to", "a", "--to", "b", "--spread", "split"), "holdall store add NAME a b --spread split"),
        (("commit", ".", "--to", "a", "--encrypt"), "holdall store add NAME a --encrypt"),
        (("ls", "-s", "a", "-s", "pair"), "pair is a profile, and a store is not made of profiles."),
        (("ls", "-s", "a", "--spread", "stripe"), "--spread stripe takes two stores or more."),
        (("ls", "-s", "pair", "--spread", "stripe"), "The profile pair is not spread so."),
        (("ls", "-s", "pair", "--api-key-file", "key"), "The profile pair has its API keys."),
        (("verify", "pair", "--store", "a"), "There are two stores to look at."),
        (("verify", "0" * 64, "--store", "a", "--repair"), "There is no second copy to repair from in this store."),
        (("verify", "pair", "--repair", "--sample", "1%"), "--repair goes with neither --sample nor --quarantine."),
        (("backup", "pair", "profile:pair"), "FROM and TO are the same store."),
    ],
)
def test_what_needs_a_profile_or_something_else_says_so(
    holdall: Holdall, home: Path, words: tuple[str, ...], sentence: str
) -> None:
    (home / "work" / "key").write_text("a key")
    (home / "work" / "a").mkdir()
    holdall("store", "add", "pair", home / "c", home / "d")

    refused = holdall(*words)

    assert (refused.code, refused.out) == (2, b"")
    assert sentence in refused.err
