"""Bounds of what the server takes from a stranger."""

from typing import Final

from holdall.limits import KIB, MIB

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

# --- access ---

FAILURE_CLIENTS_MAX: Final = 4096
"""Clients whose failed keys are remembered, oldest forgotten first."""

FAILURE_DELAY_SECONDS_MAX: Final = 5.0
"""Longest wait put before the answer to a wrong key."""
