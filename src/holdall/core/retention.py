"""When an entry expires, and when a read must be written down for it not to.

Plan, then act: these decide, the sweeper and the store act. Times are integer nanoseconds since 1970.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from holdall.limits.stores import TOUCH_FRACTION, TOUCH_NS_MAX


@dataclass(frozen=True, slots=True)
class Retention:
    """How long an entry lives that nobody reads or writes.

    Attributes:
        length_ns: Nanoseconds from last use to expiry; None keeps everything for ever.
        start_ns: When this server started; nothing expires sooner than one length after it.
        lag_ns_max: The recorded last use never lags a use by more than this.
        grain_ns: How far the recorded last use may lag the real one; a sweep waits this much longer.
    """

    length_ns: int | None
    start_ns: int = 0
    lag_ns_max: int = TOUCH_NS_MAX
    grain_ns: int = field(init=False, compare=False)

    def __post_init__(self) -> None:
        """Works the grain out once: every read asks for it."""
        grain_ns = self.lag_ns_max
        if self.length_ns is not None:
            grain_ns = min(self.length_ns // TOUCH_FRACTION, grain_ns)
        object.__setattr__(self, "grain_ns", grain_ns)

    def must_record(self, recorded_ns: int, now_ns: int) -> bool:
        """Whether a use at `now_ns` must be written down, given the last use already recorded."""
        return now_ns - recorded_ns > self.grain_ns

    def expires_ns(self, recorded_ns: int) -> int | None:
        """When an entry may be deleted, given its recorded last use; None for never."""
        if self.length_ns is None:
            return None
        return max(recorded_ns, self.start_ns) + self.length_ns + self.grain_ns

    def expired(self, recorded_ns: int, now_ns: int) -> bool:
        """Whether an entry may be deleted now, given its recorded last use."""
        expires_ns = self.expires_ns(recorded_ns)
        return expires_ns is not None and now_ns > expires_ns
