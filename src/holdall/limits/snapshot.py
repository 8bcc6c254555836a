"""Bounds of commits, of what goes through whole stores, and of watching."""

from typing import Final

from holdall.limits import KIB, MIB

# --- commits ---

NAME_BYTES_MAX: Final = 255
"""Longest name in a tree: what ext4, xfs, btrfs and tmpfs take."""

PATH_BYTES_MAX: Final = 16 * KIB
"""Longest path in a tree: four times what one system call takes, for trees reached step by step."""

REF_NAME_BYTES_MAX: Final = 1 * KIB
"""Longest name of a ref."""

REF_MESSAGE_BYTES_MAX: Final = 16 * KIB
"""Longest message of a commit: a page and a half of text; it is appended with its entry in one step."""

REF_BYTES_MAX: Final = 256 * MIB
"""Largest ref that is read: about a million commits."""

WALK_DESCRIPTORS_MAX: Final = 32
"""Directories kept open on the way down a tree; few trees are deeper, and macOS gives a process 256 in all."""

IGNORE_FILE_BYTES_MAX: Final = 1 * MIB
"""Longest .gitignore: a hundred times the longest template; what is compiled from it takes seconds at worst."""

CLOCK_TICK_NS: Final = 50_000_000
"""A file younger than this when it was read is read again: kernels note times in ticks of up to 10 ms."""

COARSE_CLOCK_TICK_NS: Final = 2_100_000_000
"""The same where a file system knows only seconds, FAT only every second one."""

UPLOAD_BYTES_MAX: Final = 4 * MIB
"""Compressed chunks gathered before the store is asked which of them it lacks, with the entries that come with them."""

ENTRY_BYTES: Final = 512
"""What an entry of a tree takes while its chunk waits to be sent, about."""

UPLOAD_CHUNKS_MAX: Final = 256
"""The same, in number."""

UPLOAD_BATCHES_MAX: Final = 3
"""Such batches on their way at once, so that a slow one, or a slow member of a stripe, leaves no other waiting."""

UPLOADS_MAX: Final = 8
"""Chunks on their way to a server at once."""

COMMIT_ATTEMPTS_MAX: Final = 3
"""A tree whose large files shrink while they are read is begun anew this often in all."""

FILE_BYTES_MAX: Final = 1 << 50
"""Largest file in a tree: 1 PiB, above any file system's, below where offsets could overflow."""

LARGE_FILE_BYTES_MIN: Final = 256 * KIB
"""A file from here on is cut by its contents alone; smaller ones share chunks with their neighbours."""

PACK_BYTES_MIN: Final = 256 * KIB
"""Small files are gathered up to this at least: smaller chunks compress worse and cost more requests."""

PACK_BYTES_MAX: Final = 1 * MIB
"""A pack ends here even if no path in it says so; it may pass this by one small file."""

CHUNK_RAW_BYTES_MAX: Final = 8 * MIB
"""Longest chunk before compression; the largest that is cut has 2 MiB, and a reader unpacks no more than this."""

MANIFEST_LINES_MAX: Final = 1 << 15
"""Chunks named by one manifest, 2.3 MB of text; more are named by bursts that it names."""

COMMIT_CHUNKS_MAX: Final = 1 << 21
"""Chunks of one commit, half a tebibyte and more of them: a reader holds 40 bytes for each."""

INDEX_PART_BYTES: Final = 256 * KIB
"""A part of an index ends here even if no path in it says so; 256 rows of the usual length take 20 KiB."""

INDEX_PART_BYTES_MAX: Final = 4 * MIB
"""Longest part of an index: one that has grown long, and a row with all the extended attributes that may be."""

INDEX_PARTS_MAX: Final = 1 << 18
"""Parts of one index: as many as rows at the usual rate."""

INDEX_ROWS_MAX: Final = 1 << 26
"""Entries of one tree; a reader of a stranger's index counts them."""

READ_AHEAD_BYTES_MAX: Final = 16 * MIB
"""Chunks on their way from the store or being unpacked, in both their forms together, while a commit is read."""

READ_AHEAD_CHUNKS_MAX: Final = 16
"""The same, in number: as many as a client keeps connections."""

HOLE_BYTES_MIN: Final = 64 * KIB
"""A run of zeros from here on is restored as a hole; shorter ones cost more in extents than they save."""

DIRECTORIES_OPEN_MAX: Final = 32
"""Directories kept open, one in the other, while a tree is restored; deeper ones are reached step by step."""

FINISHING_ENTRIES_MAX: Final = 1 << 15
"""Symlinks and the like remembered until all files are restored; if there are more, the index is read again."""

# --- whole stores ---

STORE_JOBS: Final = 16
"""Default of --jobs for what goes through a whole store: as many as a client keeps connections."""

STORE_JOBS_MAX: Final = 256
"""Most of them: each may hold a descriptor or a connection on either side, and a chunk in memory."""

BACKUP_BATCH: Final = 4096
"""Addresses that a backup asks its target for at once, 280 KB of question; few enough to begin copying soon."""

UNDOUBTED_DELETIONS_MAX: Final = 16
"""Damaged blobs deleted over a network before it is asked whether the network is what damages them."""

# --- watching a tree ---

WATCH_SETTLE_SECONDS: Final = 1.0
"""Default of --settle: a tree is committed once it has been still for this long."""

WATCH_SETTLE_SECONDS_MAX: Final = 30.0
"""A tree that is never still is committed this long after the first change all the same, or --settle if longer."""

WATCH_EVERY_SECONDS: Final = 600.0
"""Default of --every: a walk whatever is known of changes, for queues overflow and network disks tell nothing."""

WATCH_BLIND_SECONDS: Final = 60.0
"""The same where the system does not tell of all changes."""

WATCH_LOOK_SECONDS: Final = 1.0
"""Whether the tree is still in its place is looked at so often."""

WATCH_RETRY_SECONDS_MAX: Final = 60.0
"""Longest wait before a commit that failed is tried again; the first is a second, and each is twice the last."""

WATCH_RULES_MAX: Final = 4096
"""Directories whose ignore rules are remembered between two commits."""
