"""`holdall serve`: gathers the settings from the command line, the environment and a file, and runs the server."""

import os
import tomllib
from collections.abc import Callable
from typing import Annotated, Any, Final

from cyclopts import Group, Parameter

from holdall.cli import output
from holdall.core.units import (
    SECOND_NS,
    format_duration,
    format_size,
    parse_duration_ns,
    parse_retention_ns,
    parse_size_bytes,
)
from holdall.errors import HoldallError, SettingError
from holdall.stores.opening import default_directory

_CERTIFICATE: Final = ("/etc/ssl/tig.crt", "/etc/ssl/tig.key")
"""Where the original server looks for its certificate."""
_TLS_PORT: Final = 443
_PREFIX: Final = "HOLDALL_"
_SETTINGS: Final = Group("Settings; each also HOLDALL_<NAME> in the environment, or <name> in the file", sort_key=1)


def _option(words: str, metavar: str) -> Parameter:
    return Parameter(help=words, metavar=metavar, group=_SETTINGS)


def serve(
    *,
    data: Annotated[str | None, _option("Directory to keep entries in [the embedded default].", "DIR")] = None,
    host: Annotated[str | None, _option("Address to listen on [127.0.0.1].", "HOST")] = None,
    port: Annotated[str | None, _option("Port to listen on; 0 takes a free one [7777; 443 with TLS].", "N")] = None,
    workers: Annotated[str | None, _option("Processes that share the port [1].", "N")] = None,
    retention: Annotated[
        str | None, _option("How long an unused entry lives, such as 10m, or off [2w].", "TIME")
    ] = None,
    durability: Annotated[str | None, _option("sync: a 200 survives power loss; os: a crash [sync].", "WORD")] = None,
    max_size: Annotated[str | None, _option("Largest entry [1TiB].", "SIZE")] = None,
    cache_size: Annotated[str | None, _option("Memory for hot blobs per worker; 0 for none [8MiB].", "SIZE")] = None,
    api_key_file: Annotated[str | None, _option("File with the API key [DIR/apikey, if there is one].", "FILE")] = None,
    tls_cert: Annotated[str | None, _option("PEM certificate chain [/etc/ssl/tig.crt, if there].", "FILE")] = None,
    tls_key: Annotated[str | None, _option("PEM key of the certificate [/etc/ssl/tig.key, if there].", "FILE")] = None,
    cors: Annotated[str | None, _option("Origin whose pages may call the server [none].", "ORIGIN")] = None,
    max_connections: Annotated[str | None, _option("Open connections per worker [4096].", "N")] = None,
    header_timeout: Annotated[str | None, _option("A client's time to send a request's head [10s].", "TIME")] = None,
    idle_timeout: Annotated[str | None, _option("How long an idle connection is kept [75s].", "TIME")] = None,
    stall_timeout: Annotated[str | None, _option("How long a body may stand still [30s].", "TIME")] = None,
    drain_timeout: Annotated[str | None, _option("At a stop, the time for requests under way [30s].", "TIME")] = None,
    sweep_interval: Annotated[str | None, _option("Rest between sweeps [by the retention].", "TIME")] = None,
    access_log: Annotated[
        str | None, _option("A line per request on standard error: off, text, json [off].", "WORD")
    ] = None,
    config: Annotated[str | None, Parameter(help="TOML file with settings.", metavar="FILE")] = None,
    ready_fd: Annotated[
        int | None, Parameter(help="Write the port and a newline to this descriptor once all workers listen.")
    ] = None,
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"], help="Say nothing at start.")] = False,
    debug: Annotated[bool, Parameter(help="Show where an error came from.")] = False,
) -> int:
    """Serves a directory over HTTP.

    A setting comes from the command line, else from the environment, else from the file, else from its default. The
    API key itself comes from HOLDALL_API_KEY or APIKEY, else from its file, which is read again when it changes.
    SIGTERM and SIGINT finish the requests under way and exit with 0.
    """
    given = {name: value for name, value in locals().items() if name in _READERS and value is not None}
    from holdall.server import supervisor  # noqa: PLC0415 - slow to import
    from holdall.server.settings import Settings  # noqa: PLC0415 - as above

    del debug  # `main` looks for it among the words itself
    named = _resolve(given, config)
    fields = dict(reader(value, name) for name, value in named.items() for reader in (_READERS[name],))
    _fill_defaults(fields)
    settings = Settings(api_key=_api_key(), **fields)

    def on_ready(bound: int) -> None:
        if not quiet:
            output.panel(_panel(settings, bound))
        if ready_fd is not None:
            os.write(ready_fd, b"%d\n" % bound)
            os.close(ready_fd)

    return supervisor.run(settings, on_ready)


# --- from words to settings ---


def _as_is(field: str) -> Callable[[Any, str], tuple[str, Any]]:
    return lambda value, _: (field, str(value))


def _number(field: str) -> Callable[[Any, str], tuple[str, Any]]:
    def read(value: Any, name: str) -> tuple[str, int]:
        text = str(value)
        if not (text.isascii() and text.isdecimal() and len(text) < 10):
            raise SettingError(f"{_shown(name)} must be a whole number, not {text[:40]!r}.")
        return field, int(text)

    return read


def _parsed(field: str, parse: Callable[[str], Any]) -> Callable[[Any, str], tuple[str, Any]]:
    def read(value: Any, name: str) -> tuple[str, Any]:
        try:
            return field, parse(str(value))
        except HoldallError as error:
            raise SettingError(f"{_shown(name)}: {error.message}", hint=error.hint) from None

    return read


def _seconds(text: str) -> float:
    return parse_duration_ns(text) / SECOND_NS


def _durability(value: Any, name: str) -> tuple[str, Any]:
    from holdall.stores.changes import Durability  # noqa: PLC0415 - slow to import

    try:
        return "durability", Durability(str(value))
    except ValueError:
        raise SettingError(f"{_shown(name)} is sync or os, not {str(value)[:40]!r}.") from None


_READERS: Final[dict[str, Callable[[Any, str], tuple[str, Any]]]] = {
    "data": _as_is("data"),
    "host": _as_is("host"),
    "port": _number("port"),
    "workers": _number("workers"),
    "retention": _parsed("retention_ns", parse_retention_ns),
    "durability": _durability,
    "max_size": _parsed("size_bytes_max", parse_size_bytes),
    "cache_size": _parsed("cache_bytes", parse_size_bytes),
    "api_key_file": _as_is("api_key_path"),
    "tls_cert": _as_is("tls_cert"),
    "tls_key": _as_is("tls_key"),
    "cors": _as_is("cors"),
    "max_connections": _number("connections_max"),
    "header_timeout": _parsed("header_seconds", _seconds),
    "idle_timeout": _parsed("idle_seconds", _seconds),
    "stall_timeout": _parsed("stall_seconds", _seconds),
    "drain_timeout": _parsed("drain_seconds", _seconds),
    "sweep_interval": _parsed("sweep_seconds", _seconds),
    "access_log": _as_is("access_log"),
}


def _resolve(given: dict[str, Any], config: str | None) -> dict[str, Any]:
    """Every setting that was named anywhere, the nearest naming winning."""
    from_file = {} if config is None else _read_file(config)
    from_environment = {
        name: os.environ[variable]
        for name in _READERS
        if (variable := _PREFIX + name.upper()) in os.environ and os.environ[variable] != ""
    }
    return {**from_file, **from_environment, **given}


def _read_file(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            found = tomllib.load(file)
    except OSError as error:
        raise SettingError(f"{path} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingError(f"{path} is not TOML: {error}.") from error
    settings = {name.replace("-", "_"): value for name, value in found.items()}
    for name, value in settings.items():
        if name not in _READERS:
            raise SettingError(f"{path} names {name[:40]!r}, which is no setting.", hint="See holdall serve --help.")
        if not isinstance(value, str | int) or isinstance(value, bool):
            raise SettingError(f"{path}: {_shown(name)} must be a text or a whole number.")
    return settings


def _fill_defaults(fields: dict[str, Any]) -> None:
    if "data" not in fields:
        fields["data"] = default_directory()
    fields["data"] = os.path.abspath(os.path.expanduser(fields["data"]))
    if "tls_cert" not in fields and "tls_key" not in fields and all(map(os.path.isfile, _CERTIFICATE)):
        fields["tls_cert"], fields["tls_key"] = _CERTIFICATE
    if "port" not in fields and fields.get("tls_cert") is not None:
        fields["port"] = _TLS_PORT
    fields.setdefault("api_key_path", os.path.join(fields["data"], "apikey"))


def _api_key() -> str | None:
    return os.environ.get(f"{_PREFIX}API_KEY") or os.environ.get("APIKEY") or None


def _shown(name: str) -> str:
    return "--" + name.replace("_", "-")


# --- what is said at start ---


def _panel(settings: Any, port: int) -> list[str]:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    url = f"{settings.scheme}://{host}:{port}"
    has_key = settings.api_key is not None or os.path.isfile(settings.api_key_path)
    key = "?apikey=KEY" if has_key else ""
    workers = "1 worker" if settings.workers == 1 else f"{settings.workers} workers"
    lines = [
        f"holdall serves {url}",
        "",
        f"  data        {settings.data}",
        f"  retention   {_kept(settings.retention_ns)}",
        f"  durability  {settings.durability.value}: a 200 survives "
        + ("a loss of power" if settings.durability.value == "sync" else "a crash, not a loss of power"),
        f"  API key     {'set: writes, deletes and the listing need it' if has_key else 'none: anybody may write'}",
        f"  runs        {workers}, {format_size(settings.cache_bytes)} of hot blobs each",
        "",
        f"  echo hello | curl --data-binary @- '{url}{key}'",
        f"  curl {url}/5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03.tig",
        f"  tar -c . | curl --data-binary @- '{url}{key}'",
    ]
    if not settings.is_local and not has_key:
        lines += ["", "  Warning: other hosts can reach this server, and without an API key anybody may write to it."]
    return lines


def _kept(retention_ns: int | None) -> str:
    if retention_ns is None:
        return "off: everything is kept for ever"
    return f"{format_duration(retention_ns)} after its last use an entry is deleted; --retention off keeps everything"
