"""Profiles: what a store is made of, kept under a name with the secret and the API keys that it takes.

A profile is a small JSON file in the user's configuration, in `stores/`. What `holdall store export` prints is the same
text, for one profile or several, so a file and an export can stand in for each other.
"""

from __future__ import annotations

import os
import re
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from holdall.errors import LocalFileError, SettingError, StoreURLError, UsageError
from holdall.limits.stores import PROFILES_BYTES_MAX
from holdall.stores.disk import open_regular
from holdall.stores.opening import directory_of

if TYPE_CHECKING:
    from collections.abc import Iterator

Spread: TypeAlias = Literal["mirror", "stripe", "split", "shares"]

SECRET_BYTES: Final = 32
_FORMAT: Final = 1
_SUFFIX: Final = ".json"
_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,39}")
_SECRET: Final = re.compile(rf"[0-9a-f]{{{2 * SECRET_BYTES}}}")
_SEALING: Final = {"split", "shares"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One of the stores that a place is made of.

    Attributes:
        name: What it is called. A stripe finds entries by it and a mirror keeps notes by it, so it stays as it is when
            the URL changes.
        url: Where it is.
        api_key: The key of a server.
    """

    name: str
    url: str
    api_key: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where entries are: one store, or several as one.

    Attributes:
        name: Its profile's; None where it was named by its stores.
        spread: How it uses them; None where it is one.
        needed: Of shares, how many rebuild everything.
        encrypt: Whether each member is an encrypted store.
        secret: 64 hexadecimal digits, where split, shares or encryption need them.
        stores: Its members, in an order that split and shares depend on.
    """

    name: str | None = None
    spread: Spread | None = None
    needed: int | None = None
    encrypt: bool = False
    secret: str | None = field(default=None, repr=False)
    stores: tuple[Member, ...]

    @property
    def is_sealed(self) -> bool:
        """Whether its members see neither names nor bytes, so that holdall and the secret are needed to restore."""
        return self.encrypt or self.spread in _SEALING

    @property
    def outlives(self) -> int:
        """How many members may be lost and nothing with them."""
        if self.spread == "mirror":
            return len(self.stores) - 1
        return len(self.stores) - (self.needed or 0) if self.spread == "shares" else 0

    @property
    def directories(self) -> dict[str, str]:
        """Its members that are directories, for `own_places`."""
        return {path: "the store" for member in self.stores if (path := directory_of(member.url)) is not None}

    @property
    def words(self) -> str:
        """What names it on a command line, without any key."""
        if self.name is not None:
            return f"--store {self.name}"
        named = " ".join(f"--store {word}" for word in self._quoted())
        return f"{named} --spread {self.spread}" if self.spread == "stripe" else named

    @property
    def stores_words(self) -> str:
        """What names its members on a command line, without any key."""
        spread = f" --spread {self.spread}" if self.spread not in {None, "mirror"} else ""
        return " ".join(self._quoted()) + spread

    def _quoted(self) -> list[str]:
        import shlex  # noqa: PLC0415 - for what is printed only

        return [shlex.quote(member.url.partition("?")[0]) for member in self.stores]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Text:
    """What a file or an export holds."""

    holdall_profiles: int
    profiles: tuple[Place, ...]


def configuration() -> str:
    """The directory of profiles and secrets."""
    from platformdirs import user_config_dir  # noqa: PLC0415 - slow to import

    return user_config_dir("holdall", appauthor=False)


def is_name(word: str) -> bool:
    """Whether a profile may be called so: a lower-case letter, then up to 39 letters, digits, - and _."""
    return _NAME.fullmatch(word) is not None


def check(place: Place) -> None:
    """Sees that a profile fits together.

    Raises:
        SettingError: It does not.
        StoreURLError: One of its stores is none.
    """
    if place.name is None or not is_name(place.name):
        raise SettingError(
            f"{(place.name or '')[:60]!r} cannot be the name of a profile.",
            hint="Take a lower-case letter, then letters, digits, - and _, at most 40 in all.",
        )
    for member in place.stores:
        _check_member(member)
    names = [member.name for member in place.stores]
    if len(set(names)) < len(names):
        raise SettingError("A store was named twice.")
    if not names or (len(names) > 1) is not (place.spread is not None):
        raise SettingError("To spread over stores takes two or more, and one is not spread.")
    if (place.needed is not None) is not (place.spread == "shares"):
        raise SettingError("--needed goes with --spread shares.")
    if place.needed is not None and not 1 <= place.needed <= len(names):
        raise SettingError(f"{place.needed} of {len(names)} stores cannot be what shares need.")
    if place.encrypt and place.spread in _SEALING:
        raise SettingError(f"--encrypt adds nothing to --spread {place.spread}, whose stores see nothing anyway.")
    if (place.secret is not None) is not place.is_sealed or not _SECRET.fullmatch(place.secret or "0" * 64):
        raise SettingError("The secret is not as it should be: 64 hexadecimal digits where one is needed.")


def _check_member(member: Member) -> None:
    path = directory_of(member.url)
    if not member.url.isprintable() or not member.name.isprintable():
        raise StoreURLError(f"{member.url[:200]!r} cannot be written down.")
    if member.url.lower().startswith("memory:") or (path is not None and path != member.url):
        raise StoreURLError(f"{member.url[:200]!r} keeps nothing that a profile could find again.")


# --- text ---


def to_text(places: tuple[Place, ...]) -> bytes:
    """The profiles as they are kept and exported."""
    import msgspec  # noqa: PLC0415 - needed where a profile is used only

    text = msgspec.json.encode(_Text(holdall_profiles=_FORMAT, profiles=places))
    return msgspec.json.format(text, indent=2) + b"\n"


def from_text(text: bytes, whose: str) -> tuple[Place, ...]:
    """Reads what `to_text` wrote.

    Args:
        text: The text.
        whose: Where it is from, for errors.

    Raises:
        SettingError: It is something else, or a profile in it does not fit together.
    """
    import msgspec  # noqa: PLC0415 - as above

    try:
        found = msgspec.json.decode(text, type=_Text)
        if found.holdall_profiles != _FORMAT:
            raise SettingError("It was written by a later version of holdall.")
        for place in found.profiles:
            check(place)
    except (msgspec.DecodeError, UnicodeDecodeError, UsageError) as error:
        reason = error.message if isinstance(error, UsageError) else str(error)
        raise SettingError(
            f"{whose} holds no profiles: {reason.rstrip('.')}.", hint="Take what `holdall store export` printed."
        ) from error
    if not found.profiles or len({place.name for place in found.profiles}) < len(found.profiles):
        raise SettingError(f"{whose} holds no profiles, or one twice.")
    return found.profiles


# --- files ---


def path_of(name: str) -> str:
    """The file of a profile."""
    return os.path.join(_folder(), f"{name}{_SUFFIX}")


def names() -> list[str]:
    """The names of all profiles, in order."""
    folder = _folder()
    with _told(folder):
        try:
            files = os.listdir(folder)
        except FileNotFoundError:
            return []
    return sorted(name for file in files if is_name(name := file.removesuffix(_SUFFIX)) and name != file)


def exists(name: str) -> bool:
    """Whether there is a profile of this name."""
    return is_name(name) and os.path.lexists(path_of(name))


def read(name: str) -> Place:
    """Reads a profile.

    Raises:
        UsageError: There is none.
        SettingError: Its file can be read by others, or holds something else.
        LocalFileError: Its file cannot be read.
    """
    if not exists(name):
        raise UsageError(f"There is no profile {name[:60]!r}.", hint="See those there are with holdall store ls.")
    path = path_of(name)
    with _told(path), open(path, "rb", opener=open_regular) as file:
        if os.fstat(file.fileno()).st_mode & 0o077:
            raise SettingError(
                f"{path} can be read or written by others, and what is in it is secret.",
                hint=f"Run chmod 600 {path}; if others may have read it, its keys and its secret are no longer yours.",
            )
        places = from_text(file.read(PROFILES_BYTES_MAX), path)
    if [place.name for place in places] != [name]:
        raise SettingError(f"{path} is not the profile {name}.", hint="The file goes by the name that is in it.")
    return places[0]


def write(place: Place) -> None:
    """Keeps a new profile, durably, whole or not at all.

    Raises:
        UsageError: There is one of this name.
        LocalFileError: It cannot be written.
    """
    path, folder = path_of(str(place.name)), _folder()
    making = f"{path}.{os.getpid()}"
    with _told(path):
        os.makedirs(folder, mode=0o700, exist_ok=True)
        os.chmod(folder, 0o700)
        try:
            with open(os.open(making, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
                file.write(to_text((place,)))
                file.flush()
                os.fsync(file.fileno())
            os.link(making, path)  # unlike a rename, this replaces nothing
        except FileExistsError:
            raise taken(str(place.name)) from None
        finally:
            with suppress(FileNotFoundError):
                os.unlink(making)
        for directory in (folder, os.path.dirname(folder)):
            _sync(directory)


def taken(name: str) -> UsageError:
    """The error that says that there is a profile of this name."""
    return UsageError(
        f"There is a profile {name} already.", hint="Take another name: what it holds would be lost with it."
    )


def remove(name: str) -> None:
    """Removes a profile.

    Raises:
        LocalFileError: Its file cannot be removed.
    """
    with _told(path_of(name)):
        os.unlink(path_of(name))
        _sync(_folder())


def _folder() -> str:
    return os.path.join(configuration(), "stores")


def _sync(folder: str) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def _told(path: str) -> Iterator[None]:
    """Says of which file it is that something failed."""
    try:
        yield
    except OSError as error:
        raise LocalFileError(f"{path}: {error.strerror or error}.") from error
