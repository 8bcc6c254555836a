"""`holdall compare`: what is different between two commits."""

import os
from contextlib import aclosing
from typing import TYPE_CHECKING

from holdall.cli import output
from holdall.cli.exit_codes import DONE, FAILED
from holdall.cli.options import FROM_DEFAULTS, CommonFrom, with_store
from holdall.core.address import Address

if TYPE_CHECKING:
    from holdall.stores.base import Store


def compare(old: str, new: str, /, *, common: CommonFrom = FROM_DEFAULTS) -> int:
    """Shows what is different between two commits; reads their indexes only.

    Each line is a letter and a path: A where only the new commit has it, D where only the old one, M where type,
    contents, right to execute or target differ. Mode bits are compared where both commits keep them; times, owners and
    extended attributes are not. The exit code is 0 if the trees are the same, 1 if not. With --json, each line is
    {"change", "path"}.

    Args:
        old: A commit.
        new: Another.
        common: The options of every command.
    """
    before, after = Address.parse_text(old), Address.parse_text(new)

    async def work(store: "Store") -> int:
        from holdall.snapshot.compare import compare as difference  # noqa: PLC0415 - brings asyncio with it
        from holdall.snapshot.reading import open_commit  # noqa: PLC0415 - as above

        code = DONE
        async with (
            await open_commit(store, before) as olds,
            await open_commit(store, after) as news,
            aclosing(difference(olds, news)) as changes,
        ):
            async for change in changes:
                code = FAILED
                if common.json:
                    output.document({"change": change.letter, "path": os.fsdecode(change.path)})
                else:
                    output.path_line(f"{change.letter} ", change.path)
        return code

    return with_store(common, work)
