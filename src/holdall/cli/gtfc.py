"""The commands of gtfc, where this came from: each is `holdall sync` and the word after the dash."""

import sys
from typing import NoReturn

from holdall.cli.main import program


def bootstrap() -> NoReturn:
    """`gtfc-bootstrap`."""
    program(["sync", "bootstrap", *sys.argv[1:]])


def join() -> NoReturn:
    """`gtfc-join`."""
    program(["sync", "join", *sys.argv[1:]])


def push() -> NoReturn:
    """`gtfc-push`."""
    program(["sync", "push", *sys.argv[1:]])


def pull() -> NoReturn:
    """`gtfc-pull`."""
    program(["sync", "pull", *sys.argv[1:]])


def watch() -> NoReturn:
    """`gtfc-watch`."""
    program(["sync", "watch", *sys.argv[1:]])
