"""The roster: one signed entry for each node, and the rule by which an entry counts.

The tree has an entry of each node, `.gitcluster/nodes/<id>.toml`, and beside it its signature. Whatever a tree holds is
data only: an entry counts on this node once `Roster.consider` has accepted it, and what was accepted is kept outside
the tree. So an entry that is missing, damaged, forged, of another cluster or older than the accepted one changes
nothing.

The rule: an entry is accepted if it was signed by a node that is itself accepted with the role rw, and if its serial
number is higher than that of the entry accepted before, or as high and it allows less. The first node vouches for
itself; a node that joins takes over what the node that let it in had accepted. A node that left keeps its last entry,
with the role gone, so that nobody can bring back an older one.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import tempfile
import tomllib
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from holdall.errors import RosterError
from holdall.limits.sync import SYNC_ENTRY_BYTES_MAX, SYNC_NODES_MAX
from holdall.sync.process import run, write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping

Role = Literal["rw", "ro", "gone"]

NAMESPACE: Final = "holdall-sync-node"
"""What an entry's signature is for, so that one made for something else is none."""

_SERIAL_MAX: Final = 1 << 53
_ROLES: Final = ("rw", "ro", "gone")
_FIELDS: Final = {
    "repository": re.compile(r"[0-9a-f]{16,64}"),
    "node": re.compile(r"[a-z0-9][a-z0-9-]{0,31}"),
    "role": re.compile(r"rw|ro|gone"),
    "address": re.compile(r"|[A-Za-z0-9:][A-Za-z0-9.:-]{0,252}"),
    "user": re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}"),
    "host_key": re.compile(r"|(?:ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(?:256|384|521)) [A-Za-z0-9+/]{43,1400}={0,2}"),
    "key": re.compile(r"ssh-ed25519 [A-Za-z0-9+/]{68}"),
    "signer": re.compile(r"[a-z0-9][a-z0-9-]{0,31}"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What the cluster knows of one node. Each value is safe in a line of ssh's files.

    Attributes:
        repository: The cluster's id.
        node: The node's name.
        serial: Counts its entries, from 1.
        role: rw takes part; ro takes and never gives; gone has left.
        address: Where its sshd is reached; empty for a node that nobody can connect to.
        port: The port of that.
        user: Whom to log in as.
        host_key: The key that its sshd shows; empty where the address is.
        key: The key that the node brings.
        signer: The node that signed this.
    """

    repository: str
    node: str
    serial: int
    role: Role
    address: str
    port: int
    user: str
    host_key: str
    key: str
    signer: str

    def __post_init__(self) -> None:
        """Refuses what must not stand in any file of ours.

        Raises:
            RosterError: A field has a value that it cannot have.
        """
        for name, form in _FIELDS.items():
            value = getattr(self, name)
            if not isinstance(value, str) or not form.fullmatch(value):
                raise RosterError(f"{str(value)[:60]!a} cannot be the {name.replace('_', ' ')} of a node.")
        for key in filter(None, (self.host_key, self.key)):
            _check_key(key)
        for name, most in (("serial", _SERIAL_MAX), ("port", 65535)):
            number = getattr(self, name)
            if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= most:
                raise RosterError(f"{str(number)[:60]!a} cannot be the {name} of a node.")
        if bool(self.address) != bool(self.host_key):
            raise RosterError(f"{self.node} has an address without a host key, or the other way round.")

    def text(self) -> str:
        """The entry as its file has it; there is one way to write it."""
        rows = ((name, str(value) if isinstance(value, int) else f'"{value}"') for name, value in asdict(self).items())
        return "".join(f"{name} = {value}\n" for name, value in rows)

    @classmethod
    def parse(cls, text: str) -> Entry:
        """Reads a file.

        Raises:
            RosterError: It is no entry, or not written the one way.
        """
        try:
            values = tomllib.loads(text)
        except (tomllib.TOMLDecodeError, RecursionError):
            raise RosterError("This is no roster entry.") from None
        if set(values) != {field.name for field in fields(cls)}:
            raise RosterError("This is no roster entry: it has other fields.")
        entry = cls(**values)
        if entry.text() != text:
            raise RosterError(f"The entry of {entry.node} is not written as entries are.")
        return entry

    def rank(self) -> tuple[int, int, str]:
        """Which of two entries of a node counts: that of the higher serial.

        Where two nodes made them at once, that which allows less does, and beyond that an arbitrary rule decides.
        """
        return self.serial, _ROLES.index(self.role), hashlib.sha256(self.text().encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Signed:
    """An entry's file and its signature's.

    Attributes:
        text: The entry.
        signature: As `ssh-keygen -Y sign` makes it.
    """

    text: str
    signature: str


class Roster:
    """The entries that this node has accepted, kept in a file outside the tree.

    Args:
        path: The file; it need not exist.
        repository: The cluster's id; entries of another are refused.
    """

    def __init__(self, path: Path, repository: str) -> None:
        self._path = path
        self._repository = repository
        self._signed: dict[str, Signed] = {}
        self.entries: dict[str, Entry] = {}
        """Accepted entries by node, those that left included."""
        self._text = b""
        """What the file held when it was last read, if nothing was accepted since."""
        self.load()

    def load(self) -> None:
        """Reads the file again, which another process may have written.

        Raises:
            RosterError: It is damaged.
        """
        try:
            text = self._path.read_bytes()
            if text == self._text:
                return
            rows = [Signed(row["text"], row["signature"]) for row in json.loads(text)]
        except FileNotFoundError:
            return
        except (ValueError, TypeError, KeyError):
            raise RosterError(f"{self._path} is damaged.", hint="Join again, or bring it back from a backup.") from None
        self._signed, self.entries = self._with({}, rows)
        self._text = text

    def members(self) -> list[Entry]:
        """The entries of the nodes that have not left, by name."""
        return [entry for _, entry in sorted(self.entries.items()) if entry.role != "gone"]

    def signed(self) -> list[Signed]:
        """All that is accepted, for a node that joins."""
        return [self._signed[node] for node in sorted(self._signed)]

    def trust(self, rows: list[Signed]) -> None:
        """Accepts entries whatever their signatures say: the first node's own, or what the node let in by has.

        Raises:
            RosterError: One is no entry of this cluster.
        """
        if len(rows) > SYNC_NODES_MAX:
            raise RosterError(f"A roster has at most {SYNC_NODES_MAX} nodes.")
        self._keep(rows)
        self._save()

    def consider(self, candidates: Mapping[str, Signed]) -> dict[str, str]:
        """Accepts of these what the rule allows.

        Entries are looked at until nothing more is accepted, so that one may rest on another. Those by which a node
        leaves come last: what it signed before counts.

        Args:
            candidates: By the name of their file, which has to be the node's.

        Returns:
            Why each of the others does not count, by the name of its file; what is accepted already is none of these.
        """
        refused: dict[str, str] = {}
        waiting: dict[str, tuple[Entry, Signed]] = {}
        for name, signed in candidates.items():
            try:
                entry = self._candidate(name, signed)
            except RosterError as error:
                refused[name] = error.message
                continue
            if entry is not None:
                waiting[name] = (entry, signed)
        changed = False
        for leaving in (False, True):
            progress = True
            while progress:
                progress = False
                for name, (entry, signed) in list(waiting.items()):
                    signer = self.entries.get(entry.signer)
                    if (entry.role == "gone") is not leaving or signer is None or not _may_sign(signer, entry):
                        continue
                    del waiting[name]
                    if verified(signed, signer):
                        self._keep([signed])
                        changed = progress = True
                    else:
                        refused[name] = f"It was not signed by {entry.signer}, as it says."
        if changed:
            self._save()
        return refused | {name: f"{entry.signer} is none who may sign it." for name, (entry, _) in waiting.items()}

    def _candidate(self, name: str, signed: Signed) -> Entry | None:
        """The entry in a file, or None where it is the accepted one."""
        known = self._signed.get(name)
        if known is not None and known.text == signed.text:
            return None
        entry = Entry.parse(signed.text)
        if entry.node != name or entry.repository != self._repository:
            raise RosterError("It is the entry of another node or another cluster.")
        accepted = self.entries.get(name)
        if accepted is not None and entry.rank() <= accepted.rank():
            raise RosterError(f"Its serial {entry.serial} is not above the {accepted.serial} that was seen.")
        if accepted is None and len(self.entries) >= SYNC_NODES_MAX:
            raise RosterError(f"The roster has {SYNC_NODES_MAX} nodes already.")
        return entry

    def _keep(self, rows: list[Signed]) -> None:
        self._text = b""
        self._signed, self.entries = self._with(self._signed, rows)

    def _with(self, signed: dict[str, Signed], rows: list[Signed]) -> tuple[dict[str, Signed], dict[str, Entry]]:
        """Entries with others beside them or in their places, made anew, since other threads look at what there is."""
        signed, entries = dict(signed), {node: self.entries[node] for node in signed}
        for row in rows:
            entry = Entry.parse(row.text)
            if entry.repository != self._repository:
                raise RosterError(f"The entry of {entry.node} is one of another cluster.")
            signed[entry.node], entries[entry.node] = row, entry
        return signed, entries

    def _save(self) -> None:
        rows: list[dict[str, Any]] = [asdict(row) for row in self.signed()]
        write_atomically(self._path, json.dumps(rows, indent=1).encode(), mode=0o600)


def sign(entry: Entry, key: Path) -> Signed:
    """Signs an entry with the private key of the node it names as its signer.

    Raises:
        RosterError: ssh-keygen does not.
    """
    done = run(("ssh-keygen", "-Y", "sign", "-q", "-f", key, "-n", NAMESPACE), stdin=entry.text().encode())
    if done.code:
        raise RosterError(f"The entry of {entry.node} cannot be signed: {done.last_words()}.")
    return Signed(entry.text(), done.output.decode("ascii"))


def verified(signed: Signed, signer: Entry) -> bool:
    """Whether the signature is one of this node's over this text."""
    with tempfile.TemporaryDirectory(prefix="holdall-") as place:
        allowed, signature = Path(place, "allowed_signers"), Path(place, "signature")
        allowed.write_text(f'{signer.node} namespaces="{NAMESPACE}" {signer.key}\n', encoding="ascii")
        signature.write_text(signed.signature, encoding="utf-8", errors="replace")
        words = ("ssh-keygen", "-Y", "verify", "-f", allowed, "-I", signer.node, "-n", NAMESPACE, "-s", signature)
        return run(words, stdin=signed.text.encode()).code == 0


def _may_sign(signer: Entry, entry: Entry) -> bool:
    """Whether a node may sign an entry; two that unjoined each other at once both leave, whoever was heard first."""
    return signer.role == "rw" or (signer.role == entry.role == "gone" and signer.signer == entry.node)


def checked_signed(text: bytes, signature: bytes) -> Signed:
    """What two files of a tree hold, in bounds.

    Raises:
        RosterError: They are too long, or no text.
    """
    if len(text) > SYNC_ENTRY_BYTES_MAX or len(signature) > SYNC_ENTRY_BYTES_MAX:
        raise RosterError(f"It is longer than {SYNC_ENTRY_BYTES_MAX} bytes.")
    try:
        return Signed(text.decode("ascii"), signature.decode("ascii"))
    except UnicodeDecodeError:
        raise RosterError("It is no text.") from None


def _check_key(key: str) -> None:
    """Refuses a key whose bytes do not begin with the type that it is said to have."""
    kind, _, text = key.partition(" ")
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error:
        data = b""
    if not data.startswith(len(kind).to_bytes(4, "big") + kind.encode()):
        raise RosterError(f"{key[:60]!a} is no key.")
