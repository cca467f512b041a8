"""Studies: each asks one question of the memories, and ends in a table, a picture and a conclusion made of its numbers."""

from __future__ import annotations

import difflib
import importlib
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from .base import Study

Budget = Literal["full", "small", "tiny"]

#: Every study, and the module of this package whose STUDY it is. Studies are imported when they are asked for.
STUDIES: dict[str, str] = {
    "stability": "stability",
    "ablation": "ablation",
    "scaling": "scaling",
    "long-horizon": "long_horizon",
    "long-recall": "long_recall",
    "capacity": "capacity",
}


def load_study(name: str) -> Study:
    """The study of that name.

    Raises:
        ValueError: there is none.
    """
    if name not in STUDIES:
        near = difflib.get_close_matches(name, STUDIES, n=2, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise ValueError(f"no study is called {name!r}; {hint}All: {', '.join(STUDIES)}")
    return importlib.import_module(f"{__name__}.{STUDIES[name]}").STUDY
