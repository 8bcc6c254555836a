"""Bounds of the stores: the data directory, bursts, composites, clients."""

from typing import Final

from holdall.limits import KIB, MIB

# --- the data directory ---

JOURNAL_SEGMENT_BYTES: Final = 32 * MIB
"""Each half of the journal; full of 1 KiB writes it takes about 28,000 of them to the next checkpoint."""

JOURNAL_BLOCK_BYTES: Final = 4 * KIB
"""A batch starts on a block of its own, so that a later, torn write cannot touch an acknowledged one."""

CHECKPOINT_SECONDS: Final = 5.0
"""Journaled writes are retired to plain files at least this often; ext4's own commit interval."""

LOCK_STRIPES: Final = 4096
"""Slots share this many locks by address; two busy slots meet on one with a chance of 1 in 4,096."""

REMOVALS_REMEMBERED: Final = 1024
"""Removed addresses kept in shared memory, so that each worker's cache drops just those."""

CACHE_BYTES: Final = 8 * MIB
"""Default of --cache-size per worker: keeps a worker under 64 MiB resident."""

CACHE_RECHECK_SECONDS: Final = 1.0
"""A cached blob's file is looked at again after this long, to notice another program's change to the directory."""

TOUCH_FRACTION: Final = 64
"""A read restarts the timer only when the recorded last use is older than retention / this; a sweep waits as
much longer, so nothing expires early."""

TOUCH_NS_MAX: Final = 3600 * 1_000_000_000
"""The recorded last use never lags a read by more than an hour."""

SWEEP_BATCH: Final = 256
"""Entries a sweep looks at before it lets requests go first."""

LISTING_SORT_ENTRIES: Final = 1 << 16
"""Entries sorted in memory at once; more are merged from a temporary file, so a listing of any size has one bound."""

# --- bursts ---

BURST_DEPTH_MAX: Final = 8
"""Nesting of bursts within bursts; a million chunks a level need two."""

BURST_MEMBERS_MAX: Final = 1 << 19
"""Members of one burst read, all levels together: 40 bytes each are held while it is answered."""

BURSTS_OPENED_MAX: Final = 4096
"""Bursts opened to read one, all levels together: each costs more than a member, and one may name itself."""

BURST_TEXT_BYTES_MAX: Final = 128 * MIB
"""Text of the bursts opened to read one, all levels together: a member takes 70, and empty lines cost time too."""

BURST_PLANS_MAX: Final = 4
"""Bursts whose members one worker finds at the same time; others wait."""

BURST_PLANS_MEMBERS_MAX: Final = 1 << 20
"""Members held for all burst reads of one worker; while there are more, a further one is answered 503."""

BURST_LINE_BYTES_MAX: Final = 4 * KIB
"""Longest line of a burst, comments included."""

# --- mirror and stripe ---

COMPOSITE_MEMBERS_MAX: Final = 64
"""Members of a mirror or a stripe: a mirror asks each of them for most of what is done."""

MIRROR_REST_SECONDS: Final = 15.0
"""A member that did not answer is left alone this long, so that not every call waits for it anew."""

MIRROR_CHECKED_BYTES_MAX: Final = 64 * MIB
"""A mirror checks a blob up to this size before it yields a byte of it; eight times the longest chunk of a commit."""

MIRROR_LACKS_MAX: Final = 1 << 16
"""Addresses remembered for each member that lacks them, about 8 MB; more are only counted."""

MIRROR_NOTE_BYTES_MAX: Final = 16 * KIB
"""Longest note on who is behind: one takes 45 bytes a member."""

MIRROR_LOST_SECONDS: Final = 0.8
"""A slot must look lost for this long before it is restored: one that another client is changing may look so too."""

MIRROR_FOLLOW_ATTEMPTS_MAX: Final = 16
"""Copies of a slot that others keep changing, before the follower counts as behind."""

# --- split, shares and encryption ---

SHARES_MEMBERS_MAX: Final = 16
"""Members of one composite: more providers than anyone keeps accounts with; a head holds an id for each."""

STRIPE_BYTES: Final = 1 * MIB
"""How much of a value is cut to blocks at once: the memory that an open entry needs, once for each member."""

SHARES_FAULTS_MAX: Final = 256
"""Faults of members that are remembered, oldest forgotten first."""

SHARES_REST_SECONDS: Final = 30.0
"""A member that did not answer is asked last for this long: it costs a client's retries each time."""

SHARES_LEASE_SECONDS: Final = 10.0
"""Something half done at another client is waited for this long before it counts as left behind."""

SHARES_ATTEMPTS_MAX: Final = 100
"""Tries at a change that others keep overtaking; the waits between them sum up to about ten seconds."""

SHARES_LOOKS_MAX: Final = 6
"""Looks at an entry that lacks shares before it counts as damaged: half a second for a removal under way to end."""

SHARES_LABEL_BYTES_MAX: Final = 64 * KIB
"""Longest label of a member: composites that share one take 200 bytes each."""

# --- git objects ---

LOOSE_OBJECTS_MAX: Final = 64
"""One add of more git objects than this writes them as one pack."""

LOOSE_BYTES_MAX: Final = 4 * MIB
"""One add of small objects with more bytes than this writes a pack, so that it never holds all in memory."""

SYNCS_AT_ONCE: Final = 16
"""Files of an add that are synced at the same time, each on a thread; a plain one has 3 to 8."""

# --- clients ---

CLIENT_CONNECTIONS: Final = 16
"""Connections the HTTP client keeps to one store."""

CLIENT_RETRIES: Final = 4
"""Further tries of an idempotent request that met a network error or 503."""

CLIENT_BACKOFF_SECONDS: Final = 0.1
"""Mean wait before the first further try; it doubles with each, 1.5 s in all."""

CLIENT_RETRY_AFTER_SECONDS_MAX: Final = 10.0
"""What a busy server's Retry-After adds to each of these waits at most: all tries end within a minute."""

CLIENT_CONTINUE_SECONDS_MAX: Final = 1.0
"""A stream is sent after this long without `100 Continue`, as curl does: a server may not know of it."""

CLIENT_CONNECT_SECONDS_MAX: Final = 10.0
"""The HTTP client gives a server this long to accept a connection; a lost packet or two fit in it."""

CLIENT_SILENCE_SECONDS_MAX: Final = 120.0
"""The HTTP client waits this long for an answer to go on; a server may sync a large body before it answers."""

CLIENT_PATIENCE_SECONDS: Final = 10.0
"""After this long without an answer it is said who is waited for: nobody looks at nothing for longer."""

CLIENT_ANSWER_BYTES_MAX: Final = 4 * KIB
"""Longest answer that is a path or a sentence; a server that sends more is not ours."""

CLIENT_SPOOL_BYTES: Final = 1 * MIB
"""What the HTTP client keeps in memory of a body that it must have whole; the rest goes to a temporary file."""

JSON_VALUE_BYTES_MAX: Final = 16 * MIB
"""Largest slot whose value the command line puts into a JSON document."""

PROFILES_BYTES_MAX: Final = 1 * MIB
"""Longest text of profiles: one of 64 stores with long URLs and keys takes 100 KB."""
