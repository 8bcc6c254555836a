"""Either package in a process of its own: `driver.py PACKAGE` answers one JSON document a line with another.

It runs under the interpreter of the package's own environment, so it imports nothing but the package and the standard
library. Whatever it times, it times inside, so that the pipe does not count. A time is a number, a string, null, or
`{"gmtime": seconds}` or `{"localtime": seconds}` for what `time` calls so; bytes are base64.
"""

from __future__ import annotations

import base64
import gc
import importlib
import itertools
import json
import os
import resource
import sys
import time
from typing import Any


class Driver:
    """The calls of one package, on the store that was opened last.

    Args:
        package: Its name.
    """

    def __init__(self, package: str) -> None:
        self._package = importlib.import_module(package)
        self._store: Any = None

    def open(self, path: str, **options: Any) -> dict[str, Any]:
        key = options.pop("key", None)
        began = time.perf_counter()
        self._store = self._package.Store(path, key=key.encode() if key else None, **options)
        return {"seconds": time.perf_counter() - began}

    def add(self, blob: str, **when: Any) -> dict[str, Any]:
        content, when = base64.b64decode(blob), {name: _moment(value) for name, value in when.items()}
        began = time.perf_counter()
        self._store.addblob(content, **when)
        return {"seconds": time.perf_counter() - began}

    def add_all(self, blobs: list[str], timestamps: list[Any] | None = None) -> dict[str, Any]:
        times = None if timestamps is None else [_moment(value) for value in timestamps]
        self._store.addblobs([base64.b64decode(blob) for blob in blobs], times)
        return {}

    def get(self, *, pull: bool = False, **span: Any) -> dict[str, Any]:
        span = {name: _moment(value) for name, value in span.items()}
        began = time.perf_counter()
        found = list(self._store.getblobs(**span, pull=pull))
        seconds = time.perf_counter() - began
        blobs = [[blob.timestamp, base64.b64encode(blob.blob).decode()] for blob in found]
        return {"blobs": blobs, "seconds": seconds}

    def fill(self, count: int, size_bytes: int, first: int) -> dict[str, Any]:
        """Adds so many random blobs in one call, a second apart from `first` on."""
        blobs = (os.urandom(size_bytes) for _ in range(count))
        began = time.perf_counter()
        self._store.addblobs(blobs, itertools.count(first))
        return {"seconds": time.perf_counter() - began}

    def stream(self) -> dict[str, Any]:
        """Reads everything, keeping nothing; also tells the peak memory of this process so far."""
        began, count = time.perf_counter(), 0
        for _ in self._store.getblobs():
            count += 1
        return {"seconds": time.perf_counter() - began, "count": count, "peak_bytes": _peak_bytes()}


def main() -> None:
    """Answers until standard input ends."""
    driver = Driver(sys.argv[1])
    # Loggers of a package may write to standard output; the answers have a descriptor of their own.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        asked = json.loads(line)
        gc.collect()
        try:
            answer = getattr(driver, asked.pop("do"))(**asked)
        except Exception as error:  # noqa: BLE001 - it is the answer
            kinds = [kind.__name__ for kind in type(error).__mro__]
            answer = {"error": kinds, "message": str(error)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _moment(value: Any) -> Any:
    if isinstance(value, dict):
        ((kind, seconds),) = value.items()
        return getattr(time, kind)(seconds)
    return value


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main()
