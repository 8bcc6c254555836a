"""Bounds of synced folders and of what their nodes send each other."""

from typing import Final

from holdall.limits import KIB, MIB

# --- the folder ---

SYNC_FILE_BYTES_MAX: Final = 50_000_000
"""Default of the largest file that a synced folder takes: history keeps every version; GitHub warns from here on."""

SYNC_TEXT_BYTES_MAX: Final = 1 * MIB
"""Longest text that is merged by lines: finding what differs takes more than linear time."""

SYNC_BASES_DEPTH_MAX: Final = 8
"""How deep merges of merge bases nest; one level needs three nodes that merge crosswise at the same time."""

SYNC_TREES_CACHED: Final = 512
"""Directories remembered, parsed: what changes often lies in few of them."""

SYNC_KEEP_REFS_MAX: Final = 16
"""States of a folder before an apply that keep a ref of their own, which each push reads; all are in the history."""

SYNC_UPKEEP_SECONDS: Final = 3600.0
"""A folder's repository is seen to this often at most."""

SYNC_LOOSE_OBJECTS_MAX: Final = 6700
"""More objects than this in files of their own, as git's own gc.auto has it, are packed."""

SYNC_PACKS_MAX: Final = 50
"""More packs than this are made into fewer, as git's own gc.autoPackLimit has it."""

SYNC_PACKS_OPEN_MAX: Final = 32
"""Packs held open at once; every fetch makes one, and a process has 1,024 descriptors."""

SYNC_PACKING_BYTES_MAX: Final = 64 * MIB
"""Files that are compared with one another while they are packed."""

SYNC_ROUNDS_MAX: Final = 4
"""Times a merge is begun anew because files changed under it; the next reconcile goes on."""

SYNC_LOCK_SECONDS_MAX: Final = 30.0
"""How long one process waits for another that works on the same folder."""

SYNC_STALE_LOCK_SECONDS: Final = 10.0
"""A lock file of git this old, that no process has open, was left behind; git holds one for milliseconds."""

SYNC_WRITTEN_SECONDS: Final = 120.0
"""By then the system has written a file to the disk unasked; Linux begins after 30 s."""

SYNC_BRAKE_FILES_MIN: Final = 10
"""More removals than this, and more than half of all files, at once: held until somebody says that it was meant."""

SYNC_BRAKE_SECONDS: Final = 60
"""Removals within this count as one: rm -rf of 100,000 files takes a second on an SSD, a minute on a slow disk."""

# --- the network ---

SYNC_NODES_MAX: Final = 256
"""Nodes of one cluster, those that left included: each pushes to all others."""

SYNC_ENTRY_BYTES_MAX: Final = 8 * KIB
"""Longest roster entry, signature, or request to join: an entry takes 500 bytes, with the largest host key 1.5 KiB."""

SYNC_PUSH_BYTES_MAX: Final = 16 * 1024 * MIB
"""Longest pack taken from a node at once: a folder that joins with all that it holds comes as one."""

SYNC_ARRIVAL_PATHS_MAX: Final = 1_000_000
"""Paths that may change at once: few trees have more, and a tree of a few hundred bytes may stand for billions."""

SYNC_ARRIVAL_FILE_BYTES_MAX: Final = 1024 * MIB
"""Largest file taken from another node: it is held in memory, and a few kilobytes may unpack to any length."""

SYNC_ARRIVAL_DEPTH_MAX: Final = 200
"""Directories in one another that are taken from another node; a path of the system has 4,096 bytes."""

SYNC_INVITE_SECONDS: Final = 900.0
"""An invite is good for this long unless said otherwise: time to walk to the other machine."""

SYNC_INVITES_MAX: Final = 64
"""Invites open at once."""

SYNC_CONNECT_SECONDS_MAX: Final = 5.0
"""A peer has this long to accept a connection: two lost packets fit in it."""

SYNC_SILENCE_SECONDS_MAX: Final = 4.0
"""A connection over which nothing has come for this long, though asked for, is dropped: TCP itself tries again only
when as much time once more has gone by. A long push has an answer for each 100 KB: at 200 kbit/s, by then."""

SYNC_PATIENCE_DOUBLINGS_MAX: Final = 4
"""Times that it is doubled, once for each failure in a row but the first: so a slower network gets through, too."""

SYNC_TRANSFER_SECONDS_MAX: Final = 3600.0
"""One push or fetch may take so long: the longest pack at 36 Mbit/s."""

SYNC_PROGRAM_SECONDS_MAX: Final = 60.0
"""ssh-keygen, or git on what is here already, has this long."""

SYNC_WORDS_BYTES_MAX: Final = 64 * KIB
"""What is kept of the words of ssh and git on their standard error; a peer may send words without end."""

SYNC_LINE_SECONDS: Final = 60.0
"""A push that has been begun ahead waits for something to push for this long: who edits once mostly edits again."""

SYNC_LINE_DELAY_SECONDS: Final = 0.03
"""It is begun so long after the last push: by then that one is merged, most often, and it is in nobody's way."""

SYNC_BACKOFF_SECONDS_MIN: Final = 1.0
"""A peer that failed is left alone this long at first."""

SYNC_BACKOFF_SECONDS_MAX: Final = 60.0
"""And at most this long."""

SYNC_JOBS: Final = 16
"""Peers that are pushed to or fetched from at once."""

SYNC_SETTLE_SECONDS: Final = 0.01
"""A folder has to be still for this long before it is looked at: editors write, rename and set modes within some ms."""

SYNC_WRITING_SECONDS: Final = 0.05
"""The same where a file was written to and not closed: whoever writes it seldom rests for as long."""

SYNC_SETTLE_SECONDS_MAX: Final = 0.5
"""And it is looked at after this long even if it never rests."""

SYNC_GROWING_BYTES_MIN: Final = 1 * MIB
"""A file this large that stays open is not looked at with each write: each look makes a version of all of it."""

SYNC_GROWING_BYTES_PER_SECOND: Final = 100_000
"""But after its length at this rate: what a download of 50 MB in five minutes adds to history is a few times itself."""

SYNC_HINTS_MAX: Final = 4096
"""Paths of changes that are remembered one by one; where there are more, the whole folder is looked at."""

SYNC_RECONCILE_SECONDS: Final = 300.0
"""The whole folder is looked at this often, whatever the system told of changes: 10,000 files take 0.1 s."""

SYNC_LAG_SECONDS: Final = 30.0
"""And this often while files could not be written: nothing tells that a disk may be written to again."""

SYNC_BLIND_SECONDS: Final = 5.0
"""And this often where the system does not tell of all changes, or less often, so that it takes a 20th of the time."""

SYNC_LOOK_SECONDS: Final = 2.0
"""How often the daemon looks whether the folder is still where it was, and whether another process moved main."""

SYNC_ASK_SECONDS: Final = 20.0
"""How often a peer is asked for what it has: it may not have been able to push, and it may be gone."""

SYNC_RELAY_SECONDS: Final = 1.0
"""A peer that may have a commit from whoever made it is asked for it after this long, not sent it at once."""

SYNC_RELAY_SECONDS_MIN: Final = 0.2
"""The same for a peer that did not have it the last time: it may get everything by way of this node."""

SYNC_POLL_SECONDS: Final = 5.0
"""The same for a node that nobody can connect to: what is new elsewhere comes no other way."""

SYNC_PROBE_SECONDS: Final = 1.0
"""How often an unreachable peer is knocked at, and how long that may take: so a healed network is used within 2 s."""

SYNC_STALE_SECONDS: Final = 60.0
"""A peer that has not answered for this long, or has lacked something for this long, is stale."""

SYNC_LEFT_OUT_MAX: Final = 1000
"""Files left out of a folder's history that are remembered for its status; more are not for people to read."""

SYNC_KEPT_SECONDS: Final = 86400.0
"""The store of large files is asked this often for what the folder has: that restarts timers, and finds losses."""

SYNC_STAGED_SECONDS: Final = 60.0
"""Bytes of a large file that have come, and that nothing waits for now, are kept this long: a round may want them."""

SYNC_DAEMON_SECONDS_MAX: Final = 2.0
"""A daemon answers on its socket within this, or is taken for stuck."""

SYNC_LOG_BYTES_MAX: Final = 1 * MIB
"""Longest log of a daemon in the background; one older log is kept."""

SYNC_OVERLAY_SECONDS_MAX: Final = 60.0
"""An overlay has this long."""

SYNC_OVERLAY_BYTES_MAX: Final = 1 * MIB
"""Longest overlay script, and what is taken of an overlay's output."""
