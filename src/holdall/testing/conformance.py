"""The conformance suite: the contracts of `holdall.stores.base`, as tests that any store can run.

Here the parts come together; each `conformance_*` module beside it holds one of them. No part knows which
store it tests, and none looks at anything but what the contracts promise.
"""

from __future__ import annotations

try:
    import pytest  # noqa: F401 - the parts need it; whoever lacks it is told here
except ImportError as error:
    raise ImportError("The conformance suite needs pytest: pip install pytest") from error

from holdall.testing.conformance_abilities import AbilitiesContract
from holdall.testing.conformance_blobs import BlobsContract
from holdall.testing.conformance_lasting import LastingContract
from holdall.testing.conformance_listing import ListingContract
from holdall.testing.conformance_mixes import MixesContract
from holdall.testing.conformance_races import RacesContract
from holdall.testing.conformance_readings import ReadingsContract
from holdall.testing.conformance_serving import ServingContract
from holdall.testing.conformance_slots import SlotsContract
from holdall.testing.conformance_timers import TimersContract
from holdall.testing.conformance_versions import VersionsContract


class StoreConformance(
    BlobsContract,
    ReadingsContract,
    SlotsContract,
    VersionsContract,
    ListingContract,
    RacesContract,
    MixesContract,
    TimersContract,
    LastingContract,
    AbilitiesContract,
    ServingContract,
):
    """Holds a store to its contracts: subclass it in a test module and say how the store is opened.

        class TestMyStore(StoreConformance):
            lasting = True

            @pytest.fixture(autouse=True)
            def _place(self, tmp_path):
                self.place = tmp_path

            @asynccontextmanager
            async def open_store(self):
                store = await MyStore.open(self.place)
                try:
                    yield store
                finally:
                    await store.aclose()

    Every test opens the store anew, on an event loop of its own, and uses addresses of its own, so the store
    need not be empty. The attributes of `StoreContract` say what more can be tested: `lasting`, `shows_use`,
    `body_bytes_max`, `repeats`.
    """
