"""What a blob is made on its way into a file, and back: first compressed, then encrypted; either may be left out."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Final

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from holdall.errors import LocalFileError
from holdall.limits.timeline import KEY_FILE_BYTES_MAX
from holdall.timeline.exc import BlobError, BlobUnreadable, SettingInvalid

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

Key: TypeAlias = "bytes | str | Sequence[bytes | str]"
"""A key as `generate_key` makes it, or several: the first encrypts, each decrypts."""

_BUILT_IN: Final = frozenset({"bz2", "gzip", "lzma", "zlib", "zstd"})
"""Their round trip is not tried again with every blob."""

_ZSTD: Final = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"


def generate_key() -> bytes:
    """A new random key; who loses it loses the blobs, who finds it reads them."""
    return Fernet.generate_key()


def read_key_file(path: str | os.PathLike[str]) -> list[bytes]:
    """The keys in a file, one a line: the first encrypts, each decrypts.

    Raises:
        LocalFileError: It cannot be read.
        SettingInvalid: It holds none, or is too long to be one.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(KEY_FILE_BYTES_MAX + 1)
    except OSError as error:
        raise LocalFileError(f"The key file cannot be read: {error.strerror or error}.") from error
    keys = [line.strip() for line in content.splitlines() if line.strip()]
    if not keys or len(content) > KEY_FILE_BYTES_MAX:
        raise SettingInvalid("The key file holds no key.")
    return keys


class Codec:
    """The compression and encryption of one store.

    Args:
        compression: `bz2`, `gzip`, `lzma`, `zstd`, or the name of a module with `compress` and `decompress`.
        key: See `Key`; None encrypts nothing.

    Raises:
        SettingInvalid: There is no such compression, or a key is none.
    """

    def __init__(self, compression: str | None = None, key: Key | None = None) -> None:
        self._module = compression or "no compression"
        self._compress, self._decompress = _compression(compression)
        self._checked = compression is not None and compression not in _BUILT_IN
        self._fernet = None if key is None else _encryption(key)

    @property
    def is_dense(self) -> bool:
        """Whether what `encode` makes cannot be compressed further."""
        return self._compress is not None or self._fernet is not None

    def encode(self, blob: bytes) -> bytes:
        """The bytes of a blob's file.

        Raises:
            BlobError: The compression does not give back what it was given.
        """
        packed = blob if self._compress is None else self._compress(blob)
        if self._checked and self._decompress is not None and self._decompress(packed) != blob:
            raise BlobError(f"{self._module} does not give back the blob that it compressed.")
        return packed if self._fernet is None else self._fernet.encrypt(packed)

    def decode(self, content: bytes, name: str) -> bytes:
        """The blob of a file's bytes.

        Args:
            content: The bytes.
            name: The file's, for the error.

        Raises:
            BlobUnreadable: They are not what this store's key and compression make.
        """
        if self._fernet is not None:
            try:
                content = self._fernet.decrypt(content)
            except InvalidToken:
                raise BlobUnreadable(f"{name} cannot be decrypted with this key.") from None
        if self._decompress is None:
            return content
        try:
            return self._decompress(content)
        except Exception as error:
            raise BlobUnreadable(f"{name} cannot be decompressed by {self._module}: {error}.") from error


def _compression(name: str | None) -> tuple[Callable[[bytes], bytes] | None, Callable[[bytes], bytes] | None]:
    if name is None or name == "":
        return None, None
    if not isinstance(name, str):
        raise SettingInvalid(f"A compression is the name of a module, not {type(name).__name__}.")
    try:
        module = importlib.import_module(_ZSTD if name == "zstd" else name)
        both = module.compress, module.decompress
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingInvalid(
            f"{name!r} is no compression: {error}.", hint="Take bz2, gzip, lzma, zstd, or leave it out."
        ) from error
    return both


def _encryption(key: Key) -> MultiFernet:
    try:
        keys = [key] if isinstance(key, bytes | str) else list(key)
        return MultiFernet([Fernet(single) for single in keys])
    except (ValueError, TypeError) as error:
        raise SettingInvalid(
            f"The key cannot be used: {str(error).rstrip('.')}.",
            hint="Make one with holdall timeline key, or generate_key().",
        ) from error
