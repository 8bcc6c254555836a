"""`holdall store`: stores under a name, several as one, with the secret and the keys that they take."""

import os
import secrets
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Group, Parameter

from holdall.cli import output, profiles
from holdall.cli.exit_codes import DONE
from holdall.cli.options import DEFAULTS, Common
from holdall.cli.profiles import SECRET_BYTES, Place
from holdall.errors import LocalFileError, UsageError
from holdall.limits.stores import PROFILES_BYTES_MAX

if TYPE_CHECKING:
    from typing import Any

app = App(
    name="store",
    help="Stores under a name: one, or several as one, with all that they take. The name goes wherever a store does.",
    group_parameters=Group("Options", sort_key=1),
)


@app.command(usage="holdall store add NAME STORE [STORE ...] [OPTIONS]")
def add(
    name: str,
    store: str,
    /,
    *stores: Annotated[str, Parameter(name="store")],
    needed: Annotated[int | None, Parameter(metavar="K")] = None,
    encrypt: bool = False,
    common: Common = DEFAULTS,
) -> int:
    """Makes a profile of one store or several; from then on its name is a store.

    Directories are made now and never again: one that is missing later counts as a disk that is away. With --json,
    prints what `show --json` prints.

    Args:
        name: What to call it: a lower-case letter, then letters, digits, - and _.
        store: A directory, or a server; its API key comes from --api-key-file and is kept in the profile.
        stores: More of them, to be one with it: a mirror, unless --spread says otherwise.
        needed: Of shares, how many of the stores are enough; by default all but one.
        encrypt: Encrypt what goes into each of the stores.
        common: The options of every command.
    """
    from holdall.cli.spread import composed, members_of  # noqa: PLC0415 - slow to import
    from holdall.stores.memory import MemoryStore  # noqa: PLC0415 - as above

    if common.store:
        raise UsageError("--store has no use here.", hint="The stores come after the name.")
    members = members_of([os.path.expanduser(word) for word in (store, *stores)], common.keys())
    spread = common.spread or ("mirror" if len(members) > 1 else None)
    if needed is None and spread == "shares":
        needed = len(members) - 1
    place = Place(name=name, stores=members, spread=spread, needed=needed, encrypt=encrypt)
    if place.is_sealed:
        place = replace(place, secret=secrets.token_hex(SECRET_BYTES))
    profiles.check(place)
    composed(place, [MemoryStore() for _ in members])  # says what does not go together before anything is made
    if profiles.exists(name):
        raise profiles.taken(name)
    for member in members:
        _make(member.url)
    profiles.write(place)
    if common.json:
        output.document(_facts(place))
    elif not common.quiet:
        output.note(f"{name} is {_described(place)}; kept in {profiles.path_of(name)}.")
    if place.secret is not None and not common.quiet:
        output.note(
            f"Without its secret all in it is lost: print holdall store export {name}, and keep that elsewhere."
        )
    return DONE


@app.command(usage="holdall store ls [OPTIONS]")
def ls(*, common: Common = DEFAULTS) -> int:
    """Lists the profiles: name, what it is, its stores.

    With --json, each line is what `show --json` prints.

    Args:
        common: The options of every command.
    """
    for name in profiles.names():
        place = profiles.read(name)
        if common.json:
            output.document(_facts(place))
        else:
            output.line(f"{name}  {_described(place)}: {', '.join(member.url for member in place.stores)}")
    return DONE


@app.command(usage="holdall store show NAME [OPTIONS]")
def show(name: str, /, *, common: Common = DEFAULTS) -> int:
    """Shows what a profile is made of, without its secret and its keys.

    With --json, prints {"name", "spread", "needed", "encrypted", "secret", "stores": [{"name", "url", "api_key"}]},
    where "secret" and "api_key" say only whether there is one.

    Args:
        name: The profile.
        common: The options of every command.
    """
    place = profiles.read(name)
    if common.json:
        output.document(_facts(place))
        return DONE
    output.line(f"{place.name}: {_described(place)}")
    for member in place.stores:
        key = ", with an API key" if member.api_key else ""
        called = f", called {member.name}" if member.name != member.url else ""
        output.line(f"  {member.url}{called}{key}")
    return DONE


@app.command(usage="holdall store export (NAME ... | --all) [OPTIONS]")
def export(*names: str, every: Annotated[bool, Parameter(name="--all")] = False, common: Common = DEFAULTS) -> int:
    """Prints all that a restore needs of profiles, secrets and API keys included: keep it safe, and elsewhere.

    `holdall store import` reads it. The text is JSON, with --json or without.

    Args:
        names: The profiles.
        every: All there are.
        common: The options of every command.
    """
    if every is bool(names):
        raise UsageError("Which profiles?", hint="Give their names, or --all.")
    wanted = profiles.names() if every else list(dict.fromkeys(names))
    if not wanted:
        raise UsageError("There are no profiles.")
    text = profiles.to_text(tuple(profiles.read(name) for name in wanted))
    if not common.quiet:
        output.note("What follows is secret: whoever has it can read and change what these stores hold.")
    output.data(text)
    return DONE


@app.command(name="import", usage="holdall store import [FILE|-] [OPTIONS]")
def import_(file: str = "-", /, *, common: Common = DEFAULTS) -> int:
    """Brings back profiles from what `holdall store export` printed, and prints their names.

    One that is there already, and the same, is left as it is; if one is different, none is brought back.

    Args:
        file: Where the text is; - or nothing is standard input.
        common: The options of every command.
    """
    try:
        if file == "-":
            text = sys.stdin.buffer.read(PROFILES_BYTES_MAX + 1)
        else:
            with open(os.path.expanduser(file), "rb") as opened:
                text = opened.read(PROFILES_BYTES_MAX + 1)
    except OSError as error:
        raise LocalFileError(f"{file}: {error.strerror or error}.") from error
    if len(text) > PROFILES_BYTES_MAX:
        raise UsageError(f"{file} is over {PROFILES_BYTES_MAX} bytes long.")
    found = profiles.from_text(text, "standard input" if file == "-" else file)
    new = []
    for place in found:
        if not profiles.exists(str(place.name)):
            new.append(place)
        elif profiles.read(str(place.name)) != place:
            raise profiles.taken(str(place.name))
    for place in new:
        profiles.write(place)
    for place in found:
        output.document(_facts(place)) if common.json else output.line(str(place.name))
    return DONE


@app.command(usage="holdall store rm NAME [OPTIONS]")
def rm(name: str, /, *, yes: bool = False, common: Common = DEFAULTS) -> int:
    """Removes a profile; what its stores hold stays where it is. With --json, prints {"name", "removed": true}.

    Args:
        name: The profile.
        yes: Also if it holds a secret, without which nothing in its stores is found again.
        common: The options of every command.
    """
    place = profiles.read(name)
    if place.secret is not None and not yes:
        raise UsageError(
            f"The profile {name} holds a secret, without which all in its stores is lost.",
            hint=f"Keep what holdall store export {name} prints, then say --yes.",
        )
    profiles.remove(name)
    if common.json:
        output.document({"name": name, "removed": True})
    return DONE


def _make(url: str) -> None:
    from holdall.stores.opening import directory_of  # noqa: PLC0415 - needed here only

    path = directory_of(url)
    if path is None:
        return
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise LocalFileError(f"{path}: {error.strerror or error}.") from error


def _described(place: Place) -> str:
    """What a profile is, in a few words."""
    words = "one store" if place.spread is None else f"{place.spread} over {len(place.stores)} stores"
    if place.needed is not None:
        words += f", of which {place.needed} are enough" if place.needed > 1 else ", of which one is enough"
    return f"{words}, encrypted" if place.encrypt else words


def _facts(place: Place) -> "dict[str, Any]":
    return {
        "name": place.name,
        "spread": place.spread,
        "needed": place.needed,
        "encrypted": place.encrypt,
        "secret": place.secret is not None,
        "stores": [
            {"name": member.name, "url": member.url, "api_key": member.api_key is not None} for member in place.stores
        ],
    }
