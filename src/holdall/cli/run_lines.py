"""The lines that fetch one version of a program and run it: in a shell, in a container, in a cluster."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit, urlunsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdall.core.address import Address

_TAR: Final = {"zstd": "tar --zstd -x", "gzip": "tar -xz", "none": "tar -x"}
_IMAGE: Final = "python:3"
_NO_ZSTD: Final = "apt-get update -qq && apt-get install -y -qq zstd >/dev/null && "
_NAME_CHARS: Final = 12


def restore_line(where: str, address: Address, codec: str, depth: int) -> str:
    """What restores a commit into the current directory.

    Args:
        where: The store's name.
        address: The commit's.
        codec: How its chunks are compressed.
        depth: How deep its bursts are nested.
    """
    if re.match(r"https?://", where, re.IGNORECASE):
        return f"curl -sf {shlex.quote(_without_key(where) + address.path + f'?burst={depth}')} | {_TAR[codec]}"
    return f"holdall get --depth {depth} --store {shlex.quote(where)} {address.path} | {_TAR[codec]}"


def run_lines(where: str, address: Address, codec: str, depth: int, command: str) -> Iterator[str]:
    """The lines, the shell's first; those for containers only where a server can be reached from one.

    Args:
        where: The store's name.
        address: The commit's.
        codec: How its chunks are compressed.
        depth: How deep its bursts are nested.
        command: What to run in the tree.
    """
    restore = restore_line(where, address, codec, depth)
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
