"""What the system tells of changes in a tree, without those that no commit would take.

These are hints: queues overflow, network disks tell nothing of other machines, and there are only so many watches. So
whoever relies on them walks the tree now and then as well.
"""

from __future__ import annotations

import errno
import logging
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from holdall.errors import LocalFileError, SettingError
from holdall.limits.snapshot import WATCH_RULES_MAX
from holdall.snapshot.descent import FOLDER_FLAGS

if TYPE_CHECKING:
    from collections.abc import Callable

    from watchdog.events import FileSystemEvent
    from watchdog.observers.api import BaseObserver

    from holdall.snapshot.commit_directory import CommitOptions
    from holdall.snapshot.ignore import Ignore, Rules

_GIT: Final = b".git"
_IGNORE_FILES: Final = (b".gitignore", b".holdallignore")


class Sieve:
    """Tells what of a tree a commit would take, without walking it.

    Args:
        root: The tree.
        ignore: What is left out.
        take_git: Whether `.git` is taken.
    """

    def __init__(self, root: bytes, ignore: Ignore, *, take_git: bool) -> None:
        self._root = root
        self._ignore = ignore
        self._take_git = take_git
        self._rules: dict[bytes, Rules | None] = {}

    def takes(self, path: bytes, *, is_directory: bool) -> bool:
        """Whether a commit takes what is at a path from the root; True where that cannot be told."""
        folder, _, name = path.rpartition(b"/")
        try:
            rules = self._rules_in(folder)
        except (OSError, LocalFileError):
            return True
        return rules is not None and self._lets_through(rules, path, name, is_directory=is_directory)

    def _lets_through(self, rules: Rules, path: bytes, name: bytes, *, is_directory: bool) -> bool:
        if name == _GIT and not self._take_git:
            return False
        return not rules.leave_out(path, name, is_directory=is_directory)

    def _rules_in(self, folder: bytes) -> Rules | None:
        """What is left out in a directory; None where the directory itself is."""
        known, rest = folder, []
        while known not in self._rules and known:
            known, _, name = known.rpartition(b"/")
            rest.append(name)
        if known not in self._rules:
            self._rules[known] = self._read(self._ignore.top, b"")
        rules = self._rules[known]
        while rest and rules is not None:
            name = rest.pop()
            known = known + b"/" + name if known else name
            rules = self._read(rules, known) if self._lets_through(rules, known, name, is_directory=True) else None
            if len(self._rules) >= WATCH_RULES_MAX:
                self._rules.clear()
            self._rules[known] = rules
        return rules

    def _read(self, above: Rules, folder: bytes) -> Rules:
        fd = os.open(os.path.join(self._root, folder), FOLDER_FLAGS)
        try:
            return self._ignore.enter(above, folder and folder + b"/", fd, [*_IGNORE_FILES])
        finally:
            os.close(fd)


class TreeEvents(logging.Handler):
    """The watching of one tree, from `start` to `stop`; it also hears what the library says goes wrong.

    Args:
        root: The tree's directory, or a symlink to it.
        options: What a commit takes of it.
        on_change: Told, on another thread, that something was changed that a commit would take, or may have been.

    Raises:
        SettingError: The package watchdog is not installed.
        HoldallError: As `CommitOptions.ignore`.
    """

    def __init__(self, root: str, options: CommitOptions, on_change: Callable[[], None]) -> None:
        super().__init__(logging.WARNING)
        try:
            import watchdog.observers  # noqa: F401, PLC0415 - an optional package
        except ImportError:
            raise SettingError(
                "Watching needs the package watchdog.", hint="Install it: pip install 'holdall[watch]'"
            ) from None
        self._root = os.path.realpath(root)
        self._prefix = os.fsencode(os.path.join(self._root, ""))
        self._options = options
        self._on_change = on_change
        self._observer: BaseObserver | None = None
        self.refresh()

    def refresh(self) -> None:
        """Reads anew what is left out, before each commit; errors as `CommitOptions.ignore`."""
        ignore = self._options.ignore(self._root)
        self._sieve = Sieve(os.fsencode(self._root), ignore, take_git=self._options.no_ignore)

    def start(self) -> None:
        """Begins to watch; what is changed from here on is told.

        Raises:
            OSError: The system does not watch it: no watches are left, or the tree is gone.
        """
        from watchdog import events  # noqa: PLC0415 - an optional package
        from watchdog.observers import Observer  # noqa: PLC0415 - as above

        wanted: list[type[FileSystemEvent]] = [
            *(events.FileCreatedEvent, events.FileModifiedEvent, events.FileAttribEvent, events.FileDeletedEvent),
            *(events.FileMovedEvent, events.FileClosedEvent),
            *(events.DirCreatedEvent, events.DirDeletedEvent, events.DirMovedEvent),
        ]
        handler = events.FileSystemEventHandler()
        handler.dispatch = self._hear  # type: ignore[method-assign]
        logging.getLogger("watchdog").addHandler(self)
        self._observer = Observer()
        self._observer.schedule(handler, self._root, recursive=True, event_filter=wanted)
        self._observer.start()

    def is_whole(self) -> bool:
        """Whether all directories are watched: the library keeps silent about those for which no watch was left."""
        observer = self._observer
        if observer is None or not observer.is_alive() or not all(emitter.is_alive() for emitter in observer.emitters):
            return False
        from watchdog.events import DirMovedEvent, FileSystemEventHandler  # noqa: PLC0415 - an optional package

        above = os.path.dirname(self._root)  # which is outside of the tree, and takes one more watch
        try:
            observer.unschedule(observer.schedule(FileSystemEventHandler(), above, event_filter=[DirMovedEvent]))
        except OSError:
            return False
        return True

    def stop(self) -> None:
        """Ends it. Stopping twice is harmless."""
        observer, self._observer = self._observer, None
        if observer is not None:
            observer.stop()
            with suppress(RuntimeError):  # it did not start
                observer.join()
        logging.getLogger("watchdog").removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Takes a warning of the library for what it is: changes may have been overlooked."""
        del record
        self._on_change()

    def _hear(self, event: FileSystemEvent) -> None:
        for path in map(os.fsencode, (event.src_path, event.dest_path or event.src_path)):
            if not path.startswith(self._prefix):
                if path + b"/" == self._prefix:
                    self._on_change()  # the root itself went away
                continue
            if self._sieve.takes(path.removeprefix(self._prefix), is_directory=event.is_directory):
                self._on_change()


def why_blind(error: OSError | None) -> str:
    """Why changes are not told of, and what helps, for people."""
    if error is None or error.errno in {errno.ENOSPC, errno.EMFILE}:
        return "the system's inotify watches are used up (sysctl fs.inotify.max_user_watches)"
    return error.strerror or str(error)
