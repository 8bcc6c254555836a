"""The `format=` template: the first `*` becomes the path, nothing else is special."""

from __future__ import annotations

from holdall.errors import TemplateError
from holdall.limits.server import TEMPLATE_BYTES_MAX


def check_template(template: str) -> str:
    """Returns the template unchanged if it may be used.

    Raises:
        TemplateError: It is longer than `TEMPLATE_BYTES_MAX` bytes or holds a control character, which could
            forge lines in whatever reads the answer.
    """
    if len(template.encode("utf-8", "surrogatepass")) > TEMPLATE_BYTES_MAX:
        raise TemplateError(f"The format is longer than {TEMPLATE_BYTES_MAX} bytes.")
    if not template.isprintable():
        raise TemplateError("The format holds a control character or an undecodable byte.")
    return template


def fill(template: str, path: str) -> str:
    """Replaces the first `*` of a checked template by `path`; a template without one is returned as it is."""
    return template.replace("*", path, 1)
