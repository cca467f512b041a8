"""The border to the environments: what comes from them was written by others, and is checked and copied here."""

import logging
from functools import cache

_log = logging.getLogger("hadamem")


@cache
def notice(text: str) -> None:
    """Say something once in a process, on the logger "hadamem": one line on stderr unless logging is set up otherwise."""
    _log.warning(text)
