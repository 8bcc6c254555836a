"""From the name of a store to the store."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from holdall.errors import HoldallError, StoreError, StoreURLError
from holdall.stores import opening
from holdall.stores.directory import DirectoryStore
from holdall.stores.http import HTTPStore
from holdall.stores.memory import MemoryStore
from holdall.stores.opening import default_directory, directory_of, open_store


async def opened(where: str, **options: str) -> object:
    store = await open_store(where, **options)  # type: ignore[arg-type]
    await store.aclose()
    return store


@pytest.mark.parametrize(
    ("where", "kind"),
    [
        ("memory:", MemoryStore),
        ("Memory:", MemoryStore),
        ("http://host:7777", HTTPStore),
        ("HTTPS://host/below?apikey=k", HTTPStore),
    ],
)
def test_a_url_opens_what_it_names(where: str, kind: type) -> None:
    assert type(asyncio.run(opened(where))) is kind


def test_a_path_opens_a_directory_that_is_made_if_need_be(tmp_path: Path) -> None:
    first = asyncio.run(opened(str(tmp_path / "new" / "store")))
    second = asyncio.run(opened(f"file://{tmp_path}/with%20space"))

    assert isinstance(first, DirectoryStore)
    assert isinstance(second, DirectoryStore)
    assert sorted(os.listdir(tmp_path)) == ["new", "with space"]


def test_a_directory_is_not_made_where_it_was_not_to_be(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        asyncio.run(open_store(str(tmp_path / "missing"), create=False))

    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("/data", "/data"),
        ("./a:b", os.path.abspath("a:b")),
        ("file:///data", "/data"),
        ("file://localhost/data", "/data"),
        ("http://host", None),
        ("memory:", None),
    ],
)
def test_only_paths_and_file_urls_name_a_directory(where: str, expected: str | None) -> None:
    assert directory_of(where) == expected


@pytest.mark.parametrize(
    ("where", "hint"),
    [
        ("", "A store is a path"),
        ("a\0b", "A store is a path"),
        ("ftp://host", "A store is a path"),
        ("localhost:7777", "Is it http://localhost:7777?"),
        ("memory:x", "Write memory: alone."),
        ("file://other/data", "Write file:///path."),
        ("file:data", "Write file:///path."),
        ("file:///data?x=1", "Write file:///path."),
        ("file:///a%00b", "Write file:///path."),
        ("file://[/x", "A store is a path"),
        ("http://", "A store is a path"),
    ],
)
def test_what_names_no_store_is_refused_with_what_to_write_instead(where: str, hint: str) -> None:
    with pytest.raises(StoreURLError) as refused:
        asyncio.run(open_store(where))

    assert refused.value.hint.startswith(hint)


def test_an_api_key_can_be_given_beside_the_url() -> None:
    store = asyncio.run(opened("http://host", api_key="k"))

    assert isinstance(store, HTTPStore)
    assert store.has_key


def test_a_key_that_cannot_be_sent_is_refused() -> None:
    with pytest.raises(HoldallError, match="API key"):
        asyncio.run(open_store("http://host", api_key="two\nlines"))


def test_the_default_is_the_original_servers_directory_where_it_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "DATA_DIRECTORY", str(tmp_path))

    assert default_directory() == str(tmp_path)


def test_the_default_is_else_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "DATA_DIRECTORY", str(tmp_path / "missing"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))

    assert Path(default_directory()).is_relative_to(tmp_path)
