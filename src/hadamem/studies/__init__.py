"""Studies: each answers one question about the memories with a table, a picture and a conclusion computed from the numbers."""

from __future__ import annotations

import difflib
import importlib
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from .base import Study

Budget = Literal["full", "small", "tiny"]

#: Every study by name, with the module of this package that defines it as STUDY. A module is imported when its study is loaded.
STUDIES: dict[str, str] = {
    "stability": "stability",
    "ablation": "ablation",
    "scaling": "scaling",
    "long-horizon": "long_horizon",
    "long-recall": "long_recall",
    "capacity": "capacity",
}


def load_study(name: str) -> Study:
    """Import the study of that name.

    Raises:
        ValueError: no study has that name.
    """
    if name not in STUDIES:
        near = difflib.get_close_matches(name, STUDIES, n=2, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise ValueError(f"no study is called {name!r}; {hint}All: {', '.join(STUDIES)}")
    return importlib.import_module(f"{__name__}.{STUDIES[name]}").STUDY
