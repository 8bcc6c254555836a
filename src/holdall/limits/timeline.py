"""Bounds of timelines and of the lines piped into them."""

from typing import Final

from holdall.limits import KIB, MIB

# --- timelines ---

TIMESTAMP_BITS_MAX: Final = 128
"""Of a blob's time in nanoseconds, its sign included: the index has places of this width."""

TIME_TEXT_CHARACTERS_MAX: Final = 200
"""Longest text that is read as a time; dateparser tries it in many languages."""

KEY_FILE_BYTES_MAX: Final = 64 * KIB
"""Longest file of timeline keys, 45 bytes each."""

LABEL_BYTES_MAX: Final = 80
"""Longest label, in UTF-8: quoted to three times that, it is still the name of a directory."""

THIN_TREE_BYTES_MAX: Final = 128 * KIB
"""A longer list of names, 1,400 of them, is stored uncompressed: to shrink it would take longer than the rest."""

REPACK_BYTES: Final = 128 * MIB
"""After so many bytes of such lists git is started to pack them, each as its difference to the next."""

GC_LOOSE_OBJECTS: Final = 6_912
"""About so many objects in files of their own, 27 in each directory, let git's upkeep begin: its own default."""

GC_AGAIN_SECONDS: Final = 86_400.0
"""Where git's upkeep runs, or has failed, it is not started again for so long; git itself waits as long."""

BLOBS_REMEMBERED_BYTES_MAX: Final = 16 * MIB
"""Contents of one add that are held until they are in the worktree; the rest is read again."""

GIT_INDEX_NOW_BYTES_MAX: Final = 1 * MIB
"""A git index up to this size is brought up to date with every add; a larger one within a second."""

GIT_INDEX_DELAY_SECONDS: Final = 1.0
"""How far a large git index may lag behind the last add."""

INDEX_TAIL_ROWS_MAX: Final = 4096
"""Rows appended to a timeline's index before it is sorted anew."""

TRANSFER_SECONDS_MAX: Final = 3600.0
"""A push or fetch that takes longer is given up."""

PUSH_TRIES_MAX: Final = 12
"""Tries of a push that others were quicker than; each fetches and unites first."""

STALE_LOCK_SECONDS: Final = 2.0
"""A git lock that a killed timeline may have left is waited for this long, then removed; git's own lasts ms."""

PACK_WINDOW_BYTES: Final = 8 * MIB
"""How much of a pack is mapped at once, so that reading a long timeline stays within a few MiB."""

# --- lines into a timeline ---

TIMELINE_BATCH_SECONDS: Final = 1.0
"""A line of a pipe is committed at most this long after it came; each commit costs a push."""

TIMELINE_BATCH_LINES: Final = 10_000
"""Lines of one commit, about: a commit of so many takes a second or two, and is what a crash may lose."""

TIMELINE_BATCH_BYTES: Final = 8 * MIB
"""The same in bytes: what is held until it is committed."""

TIMELINE_LINE_BYTES_MAX: Final = 16 * MIB
"""Longest line: what has no newline for so long is no text."""

TIMELINE_POLL_SECONDS: Final = 2.0
"""Default of --every: how often a follower pulls; git over ssh takes half a second for it."""
