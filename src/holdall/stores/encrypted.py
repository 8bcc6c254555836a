"""A store whose member sees neither names nor bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdall.core.shares import Erasure
from holdall.stores.shares_base import SharesBase
from holdall.stores.shares_keyring import Keyring

if TYPE_CHECKING:
    from holdall.stores.base import Store


class EncryptedStore(SharesBase):
    """Encrypts what goes into another store, with AES-256-GCM under keys of a secret.

    What it promises, besides what every `Store` does:

    * Secrecy. The member sees how many entries there are, how long each is, and when it is used; nothing else. It
      cannot test whether a known file is there: entries lie in slots named by a keyed hash of their address.
    * Equal blobs are equal for who has the secret: the key comes of the secret and the hash of the content, so a blob
      is stored once, and its ciphertext is the same whenever it is stored again. A slot's is different every time.
    * Damage is found: changed, cut, swapped or misplaced bytes give a `DamageError`. A member can still answer with
      an earlier value of a slot, or with none.

    A restore needs holdall and the secret; `curl` alone gives ciphertext. A value is spooled on this machine, in the
    clear, before it is encrypted.

    Args:
        member: Where the ciphertext goes; closed with this store.
        secret: At least 32 random bytes; without it nothing can be read or found again.
        name: What a person calls the member.

    Raises:
        SettingError: The secret is too short, or a package is not installed.
    """

    def __init__(self, member: Store, secret: bytes, *, name: str | None = None) -> None:
        super().__init__([member], None if name is None else [name], Keyring(secret, Erasure(1, 1)), least=1)
