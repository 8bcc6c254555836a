"""The commands of gtfc, where this came from: each is `holdall sync` and the word after the dash."""

import sys

from holdall.cli.main import main


def bootstrap() -> int:
    """`gtfc-bootstrap`."""
    return main(["sync", "bootstrap", *sys.argv[1:]])


def join() -> int:
    """`gtfc-join`."""
    return main(["sync", "join", *sys.argv[1:]])


def push() -> int:
    """`gtfc-push`."""
    return main(["sync", "push", *sys.argv[1:]])


def pull() -> int:
    """`gtfc-pull`."""
    return main(["sync", "pull", *sys.argv[1:]])


def watch() -> int:
    """`gtfc-watch`."""
    return main(["sync", "watch", *sys.argv[1:]])
