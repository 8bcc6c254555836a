"""Every command there is: what it is called, where it lives and what it does in a few words.

The overview is printed from this table without importing anything else, since it is what people ask for first; the
parser is built from the same table, so the two cannot differ.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from holdall import __version__
from holdall.cli.exit_codes import summary


class Command(NamedTuple):
    """One command.

    Attributes:
        name: As typed.
        target: Where it lives, `module:name`; imported when the command is used.
        words: What it does, for the overview.
        usage: What follows its name.
    """

    name: str
    target: str
    words: str
    usage: str = "[OPTIONS]"


COMMANDS: Final = {
    "Serve and set up": (
        Command("serve", "holdall.cli.serve:serve", "serve a directory to curl, browsers and other hosts"),
        Command(
            "doctor",
            "holdall.cli.doctor:doctor",
            "look at a store and its machine, and say what to mend",
            "[STORE] [OPTIONS]",
        ),
        Command("store", "holdall.cli.store:app", "name stores; make several one, encrypt, keep the secret", "COMMAND"),
        Command(
            "completion",
            "holdall.cli.completion:completion",
            "print the completion script for a shell",
            "bash|zsh|fish",
        ),
    ),
    "Blobs: bytes go in, an address comes out": (
        Command(
            "put", "holdall.cli.put:put", "store files or standard input; print their addresses", "[FILE ...] [OPTIONS]"
        ),
        Command(
            "get", "holdall.cli.get:get", "read what is at an address; check that it is undamaged", "ADDRESS [OPTIONS]"
        ),
        Command("stat", "holdall.cli.stat:stat", "show kind, size, last use and expiry", "ADDRESS ... [OPTIONS]"),
        Command(
            "ls", "holdall.cli.ls:ls", "list the store, newest use first, or a commit", "[ADDRESS [PATH]] [OPTIONS]"
        ),
        Command("have", "holdall.cli.have:have", "of many addresses, print those that are missing", "[FILE] [OPTIONS]"),
        Command("rm", "holdall.cli.rm:rm", "delete", "ADDRESS ... [OPTIONS]"),
    ),
    "Commits and backups": (
        Command(
            "commit",
            "holdall.cli.commit:commit",
            "store a directory tree under one address",
            "[DIRECTORY] [OPTIONS]",
        ),
        Command(
            "watch",
            "holdall.cli.watch:watch",
            "commit a directory tree again whenever it changes",
            "[DIRECTORY] [OPTIONS]",
        ),
        Command(
            "checkout",
            "holdall.cli.checkout:checkout",
            "restore a commit, or part of one, into a directory",
            "ADDRESS [DIRECTORY] [OPTIONS]",
        ),
        Command("show", "holdall.cli.show:show", "show what a commit is made of", "ADDRESS [OPTIONS]"),
        Command(
            "compare", "holdall.cli.compare:compare", "show what is different between two commits", "OLD NEW [OPTIONS]"
        ),
        Command(
            "keep", "holdall.cli.keep:keep", "restart the time to expiry of whole commits", "ADDRESS ... [OPTIONS]"
        ),
        Command("log", "holdall.cli.log:log", "show the commits recorded under a name", "NAME [OPTIONS]"),
        Command("backup", "holdall.cli.backup:backup", "copy everything of one store to another", "FROM TO [OPTIONS]"),
        Command(
            "verify",
            "holdall.cli.verify:verify",
            "hold every blob of a store to its address",
            "[ADDRESS|STORE] [OPTIONS]",
        ),
    ),
    "Values that change; with git underneath: blobs by time, one folder on many hosts": (
        Command("slot", "holdall.cli.slot:app", "key, get, set, append, take, claim", "COMMAND"),
        Command(
            "timeline",
            "holdall.cli.timeline:app",
            "add, get, ls, export, stats, verify, push, pull, init, key",
            "COMMAND",
        ),
        Command(
            "sync", "holdall.cli.sync:app", "bootstrap, invite, join, watch, status, conflicts, log, demo", "COMMAND"
        ),
    ),
}


def every_command() -> list[Command]:
    """All commands, in the order of the overview."""
    return [command for group in COMMANDS.values() for command in group]


def overview() -> str:
    """The page that `holdall`, `holdall --help` and `holdall help` print."""
    lines = [
        f"holdall {__version__}: every version of code and data, kept under the SHA-256 of its bytes",
        "  holdall COMMAND [OPTIONS]          holdall COMMAND --help tells all of one",
        "",
    ]
    for title, commands in COMMANDS.items():
        lines += [title, *(f"  {command.name:<12}{command.words}" for command in commands), ""]
    lines += [
        "With every command",
        "  --store STORE   a directory, http(s)://host:port, memory: or a profile; again: several as one;",
        "                  default $HOLDALL_STORE, else the directory that `holdall serve` serves",
        "  --api-key-file FILE, or $HOLDALL_API_KEY     --spread HOW     --json     --quiet     --debug",
        summary(),
    ]
    return "\n".join(lines)
