"""`holdall completion`: what makes a shell complete holdall's words."""

from typing import Literal

from holdall.cli import output
from holdall.cli.exit_codes import DONE
from holdall.cli.options import DEFAULTS, Common


def completion(shell: Literal["bash", "zsh", "fish"], /, *, common: Common = DEFAULTS) -> int:
    """Prints the completion script for a shell.

    For bash, in ~/.bashrc: eval "$(holdall completion bash)". For zsh: write it to a file _holdall in a directory of
    $fpath. For fish: write it to ~/.config/fish/completions/holdall.fish.

    Args:
        shell: Which shell.
        common: The options of every command.
    """
    del common
    from holdall.cli.parser import build  # noqa: PLC0415 - the parser imports this module

    script = build().generate_completion(shell=shell)
    # bash completes files only where it is told to; else no directory of a commit or a store would be.
    output.line(script.replace("\ncomplete -F ", "\ncomplete -o bashdefault -o default -F "))
    return DONE
