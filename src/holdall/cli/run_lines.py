"""The lines that fetch one version of a program and run it: in a shell, in a container, in a cluster."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit, urlunsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdall.cli.profiles import Place
    from holdall.core.address import Address

_TAR: Final = {"zstd": "tar --zstd -x", "gzip": "tar -xz", "none": "tar -x"}
_IMAGE: Final = "python:3"
_NO_ZSTD: Final = "apt-get update -qq && apt-get install -y -qq zstd >/dev/null && "
_NAME_CHARS: Final = 12

NEEDS_HOLDALL: Final = "What is stored there is sealed: a restore needs holdall and the profile {}, not curl alone."


def restore_line(place: Place, address: Address, codec: str, depth: int) -> str:
    """What restores a commit into the current directory: with curl where a server has all of it as it is.

    Args:
        place: The store.
        address: The commit's.
        codec: How its chunks are compressed.
        depth: How deep its bursts are nested.
    """
    servers = [member.url for member in place.stores if re.match(r"https?://", member.url, re.IGNORECASE)]
    if servers and not place.is_sealed and place.spread != "stripe":
        return f"curl -sf {shlex.quote(_without_key(servers[0]) + address.path + f'?burst={depth}')} | {_TAR[codec]}"
    return f"holdall get --depth {depth} {place.words} {address.path} | {_TAR[codec]}"


def run_lines(place: Place, address: Address, codec: str, depth: int, command: str) -> Iterator[str]:
    """The lines, the shell's first; those for containers only where a server can be reached from one.

    Args:
        place: The store.
        address: The commit's.
        codec: How its chunks are compressed.
        depth: How deep its bursts are nested.
        command: What to run in the tree.
    """
    restore = restore_line(place, address, codec, depth)
    yield f"mkdir -p {address.hex()[:_NAME_CHARS]} && cd {address.hex()[:_NAME_CHARS]} && {restore} && {command}"
    if not restore.startswith("curl"):
        return
    script = f"mkdir /app && cd /app && {_NO_ZSTD if codec == 'zstd' else ''}{restore} && {command}"
    yield f"docker run --rm -it {_IMAGE} sh -c {shlex.quote(script)}"
    name = f"run-{address.hex()[:_NAME_CHARS]}"
    yield f"kubectl run {name} --rm -it --restart=Never --image={_IMAGE} -- sh -c {shlex.quote(script)}"


def _without_key(where: str) -> str:
    """The server's URL; a key in it is for writing, and would stay in every history that the line passes through."""
    parts = urlsplit(where)
    return urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), "", ""))
