"""nginx: its static files and its DAV module, one worker."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING, ClassVar, Final

from bench.peers.base import OwnPeer, Place, PutStyle, ended_on_error, tool_missing, tool_path
from bench.process import HOST, free_port, spawn

if TYPE_CHECKING:
    from bench.process import Server

STOCK: Final = "sendfile on; tcp_nopush on;"
"""How Debian's package, like nginx's own, sets up the reading of files."""
SMALL_FILES: Final = "sendfile off;"
"""Faster for files of a few KiB: one read and one write with the headers, instead of two calls."""
OPEN_FILES: Final = "sendfile off; open_file_cache max=10000 inactive=60s; open_file_cache_valid 60s;"
"""Faster still where the files are few: it keeps them open, and notices for up to a minute no deletion."""

# Bodies in buffers of 1 MiB, which was fastest: a small one costs one write and a large one few. Keep-alive without an
# end, and no log.
CONFIGURATION: Final = """
{user}
daemon off;
pid {run}/pid;
error_log {run}/log error;
worker_processes 1;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  {reading}
  keepalive_requests 1000000000;
  client_max_body_size 0;
  client_body_buffer_size 1m;
  client_body_temp_path {run}/body;
  proxy_temp_path {run}/proxy;
  fastcgi_temp_path {run}/fastcgi;
  uwsgi_temp_path {run}/uwsgi;
  scgi_temp_path {run}/scgi;
  default_type application/octet-stream;
  server {{
    listen {host}:{port};
    root {data};
    location / {{ dav_methods PUT DELETE; }}
  }}
}}
"""


class Nginx(OwnPeer):
    """nginx with one worker; a PUT goes to a path of its own, since it does not hash.

    Args:
        name: What its rows are called.
        reading: How it reads files, as it would say it in its configuration.
    """

    put_style: ClassVar[PutStyle] = "unique"

    def __init__(self, name: str, reading: str = STOCK) -> None:
        super().__init__(name)
        self._reading = reading

    def missing(self) -> str | None:
        """Why it cannot be measured on this machine, or None if it can."""
        return tool_missing("nginx", "nginx-light")

    def version(self) -> tuple[str, str]:
        """The program's name and version."""
        told = subprocess.run([tool_path("nginx"), "-v"], capture_output=True, text=True, check=False)
        return "nginx", told.stderr.strip().rpartition("/")[2]

    def start(self, place: Place) -> Server:
        """Starts it on a directory; ready when it accepts a connection."""
        port = free_port()
        # Started by root, its workers would become another user, who may not write here.
        user = "user root;" if os.geteuid() == 0 else ""
        text = CONFIGURATION.format(
            user=user, run=place.run, data=place.data, host=HOST, port=port, reading=self._reading
        )
        with open(f"{place.run}/nginx.conf", "w", encoding="utf-8") as file:
            file.write(text)
        command = [tool_path("nginx"), "-p", place.run, "-e", place.log, "-c", f"{place.run}/nginx.conf"]
        with ended_on_error(spawn(command, log_path=place.log, port=port)) as server:
            server.wait_ready()
        return server
