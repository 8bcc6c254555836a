"""The programs that keep versions of a tree: how each makes a repository, commits into it and restores from it."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass, field
from typing import Final

from bench.peers.base import tool_missing, tool_path

Command = list[str]


@dataclass(frozen=True)
class Peer:
    """One way to keep a tree.

    Args:
        name: What its row is called.
        tool: The program that must be there, and the Debian package that brings it.
        make: Commands that make an empty repository.
        commit: Commands that put `{tree}` into it; measured.
        restore: Commands that restore what was last committed into `{out}`; measured.
        deduplicates: Whether it stores what two versions share once.
        env: Added to the environment.
    """

    name: str
    tool: tuple[str, str]
    commit: list[Command]
    restore: list[Command]
    make: list[Command] = field(default_factory=list)
    deduplicates: bool = True
    env: dict[str, str] = field(default_factory=dict)

    def missing(self) -> str | None:
        """Why it cannot be measured here, or None if it can."""
        return tool_missing(*self.tool)


@dataclass(frozen=True)
class Places:
    """Directories of one measurement.

    Args:
        tree: What is committed.
        repo: The repository.
        out: Where the tree is restored; does not exist.
        url: A holdall server on an empty directory, where one is measured.
        address: The address that the last commit printed, if it prints one.
    """

    tree: str
    repo: str
    out: str
    url: str = ""
    address: str = ""

    def fill(self, command: Command) -> Command:
        """A command with the places in it, its program found."""
        words = [
            word.format(tree=self.tree, repo=self.repo, out=self.out, url=self.url, address=self.address)
            for word in command
        ]
        return [words[0] if os.path.isabs(words[0]) else tool_path(words[0]), *words[1:]]


_HOLDALL: Final = [os.path.join(os.path.dirname(sys.executable), "holdall")]
_PYTHON: Final = ("sh", "dash")

PEERS: Final = [
    Peer(
        "holdall",
        _PYTHON,
        [[*_HOLDALL, "commit", "{tree}", "--no-ignore", "--store", "{repo}", "--quiet"]],
        [[*_HOLDALL, "checkout", "{address}", "{out}", "--store", "{repo}", "--quiet"]],
    ),
    Peer(
        "holdall-server",
        _PYTHON,
        [[*_HOLDALL, "commit", "{tree}", "--no-ignore", "--store", "{url}", "--quiet"]],
        [[*_HOLDALL, "checkout", "{address}", "{out}", "--store", "{url}", "--quiet"]],
    ),
    Peer(
        "holdall-curl",
        ("curl", "curl"),
        [[*_HOLDALL, "commit", "{tree}", "--no-ignore", "--store", "{url}", "--quiet"]],
        [["sh", "-c", "mkdir {out} && curl -sf '{url}{address}?burst=1' | tar --zstd -x -C {out}"]],
    ),
    Peer(
        "restic",
        ("restic", "restic"),
        [["restic", "-q", "-r", "{repo}/r", "backup", "{tree}"]],
        [["restic", "-q", "-r", "{repo}/r", "restore", "latest", "--target", "{out}"]],
        [["restic", "-q", "init", "--repository-version", "2", "-r", "{repo}/r"]],
        env={"RESTIC_PASSWORD": "bench"},
    ),
    Peer(
        "borg",
        ("borg", "borgbackup"),
        [["sh", "-c", "borg create --compression zstd,3 {repo}/r::$(date +%s%N) {tree}"]],
        [["sh", "-c", "mkdir {out} && cd {out} && borg extract {repo}/r::$(borg list --short --last 1 {repo}/r)"]],
        [["borg", "init", "-e", "none", "{repo}/r"]],
        env={"BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes"},
    ),
    Peer(
        "casync",
        ("casync", "casync"),
        [["casync", "make", "--store={repo}/r.castr", "--without=all", "{repo}/r.caidx", "{tree}"]],
        [["casync", "extract", "--store={repo}/r.castr", "--without=all", "{repo}/r.caidx", "{out}"]],
    ),
    Peer(
        "git",
        ("git", "git"),
        [
            ["sh", "-c", "cd {tree} && git --git-dir={repo}/g --work-tree=. add -A ."],
            ["sh", "-c", "cd {tree} && git --git-dir={repo}/g --work-tree=. commit -q -m bench"],
        ],
        [["git", "clone", "-q", "{repo}/g", "{out}"]],
        [["git", "init", "-q", "--bare", "{repo}/g"], ["git", "--git-dir={repo}/g", "config", "core.bare", "false"]],
        env={
            "GIT_AUTHOR_NAME": "b", "GIT_AUTHOR_EMAIL": "b@example.org", "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_COMMITTER_NAME": "b", "GIT_COMMITTER_EMAIL": "b@example.org", "GIT_CONFIG_NOSYSTEM": "1",
        },
    ),
    Peer(
        "tar-zstd",
        ("zstd", "zstd"),
        [["sh", "-c", "tar -C {tree} -c . | zstd -q -3 -T0 -f -o {repo}/r.tar.zst"]],
        [["sh", "-c", "mkdir {out} && zstd -dcq {repo}/r.tar.zst | tar -x -C {out}"]],
        deduplicates=False,
    ),
]  # fmt: skip


def version_of(peer: Peer) -> str:
    """What the program calls itself, for the report's head."""
    return f"{peer.name} ({shutil.which(peer.tool[0]) or 'missing'})"
