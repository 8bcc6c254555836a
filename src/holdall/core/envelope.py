"""What a secret makes of addresses and bytes: names nobody else can compute, heads and blocks nobody else can open.

Everything is a function of its arguments. Heads are small and say what is stored under a name; blocks are the stored
bytes themselves. Both are sealed with AES-256-GCM, which must never meet two plaintexts under one key and nonce. That
is kept by derivation, not by luck and not by counting:

* every run of blocks has a key of its own, derived from the secret and from all that settles the plaintext: the
  address, which is the hash of the content, or the random version of a changing value. The nonce is the number of the
  block. So equal content gives equal ciphertext to who has the secret, and to nobody else;
* a head's nonce is derived from the secret and from all of the head, so equal nonces mean equal heads.

AES-GCM-SIV would forgive a repeated nonce, but none can repeat here, and it is missing from OpenSSL before 3.2, which
some systems build the cryptography package with.
"""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Final

from holdall.core.address import Address
from holdall.errors import DamageError, SettingError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

SECRET_BYTES_MIN: Final = 32
"""Shortest secret: all keys are of 256 bits, and a secret is drawn, not remembered."""

MAGIC: Final = b"holdall\x01"
"""What every sealed head begins with; the last byte is the version of the format."""

TAG_BYTES: Final = 16
"""What sealing adds to a block."""

NONCE_BYTES: Final = 12

HEAD_OVERHEAD_BYTES: Final = len(MAGIC) + NONCE_BYTES + TAG_BYTES
"""What sealing adds to a head."""

_SALT: Final = b"holdall spread 1"


class Secret:
    """The keys that come of one secret, by HKDF with SHA-256 (RFC 5869).

    Args:
        secret: At least `SECRET_BYTES_MIN` random bytes.

    Attributes:
        fingerprint: 16 bytes that tell this secret from others and nothing else about it.

    Raises:
        SettingError: The secret is too short, or the package that encrypts is not installed.
    """

    def __init__(self, secret: bytes) -> None:
        if len(secret) < SECRET_BYTES_MIN:
            raise SettingError(
                f"The secret of a store has {len(secret)} bytes; it needs at least {SECRET_BYTES_MIN}.",
                hint="Take 32 random bytes.",
            )
        self._root = hmac.digest(_SALT, secret, "sha256")
        self._names = self._derived(b"names")
        self._nonces = self._derived(b"nonces of heads")
        self._heads = _cipher(self._derived(b"heads"))
        self.fingerprint = self._derived(b"fingerprint")[:16]

    def name(self, role: bytes, *parts: bytes) -> Address:
        """The name of what plays `role` for something, 32 bytes that look random to who has not the secret.

        Args:
            role: What it is for; no role begins with another and a zero byte.
            parts: What it belongs to, each of a length that its role settles.
        """
        return Address(hmac.digest(self._names, b"\0".join((role, *parts)), "sha256"))

    def seal_head(self, name: Address, head: bytes) -> bytes:
        """Seals a head for the name that it is stored under; the same head always becomes the same bytes.

        Returns:
            `HEAD_OVERHEAD_BYTES` more than `head` has.
        """
        nonce = hmac.digest(self._nonces, name + head, "sha256")[:NONCE_BYTES]
        return MAGIC + nonce + self._heads.encrypt(nonce, head, MAGIC + name)

    def open_head(self, name: Address, sealed: bytes) -> bytes:
        """The head that was sealed for `name`.

        Raises:
            DamageError: It was sealed for another name or with another secret, or was changed since.
        """
        nonce = sealed[len(MAGIC) : len(MAGIC) + NONCE_BYTES]
        if len(sealed) < HEAD_OVERHEAD_BYTES or not sealed.startswith(MAGIC):
            raise DamageError(f"What is stored as {name} was not written by holdall.")
        return _opened(self._heads, nonce, sealed[len(MAGIC) + NONCE_BYTES :], MAGIC + name)

    def blocks(self, *parts: bytes) -> Blocks:
        """What seals one run of blocks.

        Args:
            parts: What settles the plaintext of the whole run, each of a fixed length.
        """
        return Blocks(self._derived(b"\0".join((b"blocks", *parts))))

    def _derived(self, label: bytes) -> bytes:
        """HKDF-Expand to one key of 32 bytes."""
        return hmac.digest(self._root, label + b"\x01", "sha256")


class Blocks:
    """Seals and opens the blocks of one run, each under its number.

    Args:
        key: 32 bytes that no other run has.
    """

    def __init__(self, key: bytes) -> None:
        self._cipher = _cipher(key)

    def seal(self, number: int, block: bytes) -> bytes:
        """The block, encrypted, and `TAG_BYTES` that prove it whole and in its place.

        Args:
            number: Its place in the run, from 0; no number is sealed twice with different bytes.
            block: Any bytes.
        """
        return self._cipher.encrypt(_nonce(number), block, None)

    def open(self, number: int, sealed: bytes) -> bytes:
        """The block that was sealed under `number`.

        Raises:
            DamageError: It was not, or was changed since.
        """
        return _opened(self._cipher, _nonce(number), sealed, None)


def _nonce(number: int) -> bytes:
    return number.to_bytes(NONCE_BYTES, "big")


def _opened(cipher: AESGCM, nonce: bytes, sealed: bytes, bound: bytes | None) -> bytes:
    from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - an extra, and heavy

    try:
        return cipher.decrypt(nonce, sealed, bound)
    except (InvalidTag, ValueError):
        raise DamageError("Sealed bytes were changed, or were sealed with another secret.") from None


def _cipher(key: bytes) -> AESGCM:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - an extra, and heavy
    except ImportError:
        raise SettingError(
            "Stores with a secret need the package cryptography.", hint="Install it: pip install 'holdall[spread]'"
        ) from None
    return AESGCM(key)
