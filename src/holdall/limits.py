"""Every bound in holdall, with its unit in its name and the reason beside it.

Nothing a stranger sends may make memory, disk, time or file names unbounded; what keeps it so is listed here and
nowhere else.
"""

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

# --- bodies and chunks ---

SMALL_BYTES_MAX: Final = 64 * KIB
"""A body up to this size is handled whole in memory: journaled when written, cached when read."""

CHUNK_BYTES: Final = 256 * KIB
"""How much of a large body is held at once; larger gains nothing measurable (server-performance, 256 KiB reads)."""

BODY_BYTES_MAX: Final = 1 << 40
"""Default of --max-size: 1 TiB, above any single archive seen, below what fills a file system unnoticed."""

# --- HTTP requests ---

HEADER_BYTES_MAX: Final = 16 * KIB
"""Request line and headers together; nginx takes 4 x 8 KiB, h11 and hyper about this much."""

HEADER_COUNT_MAX: Final = 64
"""curl and browsers send under 30."""

TARGET_BYTES_MAX: Final = 4 * KIB
"""Longest request target; the address takes 69 bytes, the rest is query."""

TRAILER_BYTES_MAX: Final = 4 * KIB
"""Trailers after a chunked body are read and dropped up to this size."""

HEADER_SECONDS_MAX: Final = 10.0
"""A client has this long to finish a request's head once it began (slowloris)."""

IDLE_SECONDS_MAX: Final = 75.0
"""A connection without a request is kept this long; nginx's keepalive_timeout."""

STALL_SECONDS_MAX: Final = 30.0
"""A body, either way, may stand still this long before the connection is given up."""

BODY_RATE_BYTES_MIN: Final = 512
"""A body, either way, slower than this many bytes a second, averaged over the stall limit or more, is given up."""

CONNECTIONS_MAX: Final = 4096
"""Open connections per worker; one above it is answered 503 and closed."""

HEAD_TAILS_MAX: Final = 256
"""Ends of heads, each worker's, that need not be parsed again; a few per kind of client."""

HEAD_TAIL_BYTES_MAX: Final = 512
"""Longest of them; curl's takes 60 bytes."""

# --- requests' own words ---

TEMPLATE_BYTES_MAX: Final = 1 * KIB
"""format=: a URL prefix and suffix fit many times over."""

CONTENT_TYPE_BYTES_MAX: Final = 127
"""A type and a parameter; RFC 6838 bounds each name to 127."""

API_KEY_BYTES_MAX: Final = 1 * KIB
"""Longest API key that is read from a file or compared."""

HAVE_BYTES_MAX: Final = 1 * MIB
"""Body of one /-/have: about 14,900 paths; a client asks in batches."""

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

# --- access ---

FAILURE_CLIENTS_MAX: Final = 4096
"""Clients whose failed keys are remembered, oldest forgotten first."""

FAILURE_DELAY_SECONDS_MAX: Final = 5.0
"""Longest wait put before the answer to a wrong key."""

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

# --- sync ---

SYNC_FILE_BYTES_MAX: Final = 50_000_000
"""Default of the largest file that a synced folder takes: history keeps every version; GitHub warns from here on."""

SYNC_TEXT_BYTES_MAX: Final = 1 * MIB
"""Longest text that is merged by lines: finding what differs takes more than linear time."""

SYNC_BASES_DEPTH_MAX: Final = 8
"""How deep merges of merge bases nest; one level needs three nodes that merge crosswise at the same time."""

SYNC_TREES_CACHED: Final = 512
"""Directories remembered, parsed: what changes often lies in few of them."""

SYNC_KEEP_REFS_MAX: Final = 64
"""States of a folder before an apply that keep a ref of their own; all are in the history anyway."""

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

# --- clients ---

CLIENT_CONNECTIONS: Final = 16
"""Connections the HTTP client keeps to one store."""

CLIENT_RETRIES: Final = 4
"""Further tries of an idempotent request that met a network error or 503."""

CLIENT_BACKOFF_SECONDS: Final = 0.1
"""Mean wait before the first further try; it doubles with each, 1.5 s in all."""

CLIENT_CONNECT_SECONDS_MAX: Final = 10.0
"""The HTTP client gives a server this long to accept a connection; a lost packet or two fit in it."""

CLIENT_SILENCE_SECONDS_MAX: Final = 120.0
"""The HTTP client waits this long for an answer to go on; a server may sync a large body before it answers."""

CLIENT_ANSWER_BYTES_MAX: Final = 4 * KIB
"""Longest answer that is a path or a sentence; a server that sends more is not ours."""

CLIENT_SPOOL_BYTES: Final = 1 * MIB
"""What the HTTP client keeps in memory of a body that it must have whole; the rest goes to a temporary file."""

JSON_VALUE_BYTES_MAX: Final = 16 * MIB
"""Largest slot whose value the command line puts into a JSON document."""

PROFILES_BYTES_MAX: Final = 1 * MIB
"""Longest text of profiles: one of 64 stores with long URLs and keys takes 100 KB."""

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

# --- sync: the network ---

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

SYNC_SILENCE_SECONDS_MAX: Final = 6.0
"""A connection over which nothing has come for this long, though asked for, is dropped."""

SYNC_TRANSFER_SECONDS_MAX: Final = 3600.0
"""One push or fetch may take so long: the longest pack at 36 Mbit/s."""

SYNC_PROGRAM_SECONDS_MAX: Final = 60.0
"""ssh-keygen, or git on what is here already, has this long."""

SYNC_WORDS_BYTES_MAX: Final = 64 * KIB
"""What is kept of the words of ssh and git on their standard error; a peer may send words without end."""

SYNC_BACKOFF_SECONDS_MIN: Final = 1.0
"""A peer that failed is left alone this long at first."""

SYNC_BACKOFF_SECONDS_MAX: Final = 60.0
"""And at most this long."""

SYNC_JOBS: Final = 16
"""Peers that are pushed to or fetched from at once."""

SYNC_SETTLE_SECONDS: Final = 0.02
"""A folder has to be still for this long before it is looked at: editors write, rename and set modes within some ms."""

SYNC_SETTLE_SECONDS_MAX: Final = 0.5
"""And it is looked at after this long even if it never rests."""

SYNC_HINTS_MAX: Final = 4096
"""Paths of changes that are remembered one by one; where there are more, the whole folder is looked at."""

SYNC_RECONCILE_SECONDS: Final = 300.0
"""The whole folder is looked at this often, whatever the system told of changes: 10,000 files take 0.1 s."""

SYNC_BLIND_SECONDS: Final = 5.0
"""And this often where the system does not tell of all changes, or less often, so that it takes a 20th of the time."""

SYNC_LOOK_SECONDS: Final = 2.0
"""How often the daemon looks whether the folder is still where it was, and whether another process moved main."""

SYNC_ASK_SECONDS: Final = 20.0
"""How often a peer is asked for what it has: it may not have been able to push, and it may be gone."""

SYNC_POLL_SECONDS: Final = 5.0
"""The same for a node that nobody can connect to: what is new elsewhere comes no other way."""

SYNC_PROBE_SECONDS: Final = 1.0
"""How often an unreachable peer is knocked at, and how long that may take: so a healed network is used within 2 s."""

SYNC_STALE_SECONDS: Final = 60.0
"""A peer that has not answered for this long, or has lacked something for this long, is stale."""

SYNC_LEFT_OUT_MAX: Final = 1000
"""Files left out of a folder's history that are remembered for its status; more are not for people to read."""

SYNC_DAEMON_SECONDS_MAX: Final = 2.0
"""A daemon answers on its socket within this, or is taken for stuck."""

SYNC_LOG_BYTES_MAX: Final = 1 * MIB
"""Longest log of a daemon in the background; one older log is kept."""

SYNC_OVERLAY_SECONDS_MAX: Final = 60.0
"""An overlay has this long."""

SYNC_OVERLAY_BYTES_MAX: Final = 1 * MIB
"""Longest overlay script, and what is taken of an overlay's output."""

# --- timelines ---

TIMESTAMP_BITS_MAX: Final = 128
"""Of a blob's time in nanoseconds, its sign included: the index has places of this width."""

TIME_TEXT_CHARACTERS_MAX: Final = 200
"""Longest text that is read as a time; dateparser tries it in many languages."""

KEY_FILE_BYTES_MAX: Final = 64 * KIB
"""Longest file of timeline keys, 45 bytes each."""

LABEL_BYTES_MAX: Final = 80
"""Longest label, in UTF-8: quoted to three times that, it is still the name of a directory."""

LOOSE_OBJECTS_MAX: Final = 64
"""One add of more git objects than this writes them as one pack."""

LOOSE_BYTES_MAX: Final = 4 * MIB
"""One add of small objects with more bytes than this writes a pack, so that it never holds all in memory."""

SYNCS_AT_ONCE: Final = 16
"""Files of an add that are synced at the same time, each on a thread; a plain one has 3 to 8."""

THIN_TREE_BYTES_MAX: Final = 128 * KIB
"""A longer list of names, 1,400 of them, is stored uncompressed: to shrink it would take longer than the rest."""

REPACK_BYTES: Final = 128 * MIB
"""After so many bytes of such lists git is started to pack them, each as its difference to the next."""

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
