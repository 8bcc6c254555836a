"""What tests of a store need, shipped for everybody who writes one.

* `holdall.testing.conformance`: the suite that holds a store to the contracts of `holdall.stores.base`;
* `holdall.testing.model`: a stateful model that compares a store with `MemoryStore`.

The first needs pytest, the second hypothesis too; `import holdall.testing` alone needs neither.
"""

from __future__ import annotations

import importlib.util
from typing import Final

_SUITE: Final = (
    "abilities",
    "blobs",
    "lasting",
    "listing",
    "mixes",
    "races",
    "readings",
    "serving",
    "slots",
    "timers",
    "versions",
)

if importlib.util.find_spec("pytest") is not None:
    import pytest

    # Without it a failing assertion of the suite would not show its values; it must come before their import.
    pytest.register_assert_rewrite(
        "holdall.testing.contract",
        "holdall.testing.racing",
        *(f"holdall.testing.conformance_{part}" for part in _SUITE),
    )
