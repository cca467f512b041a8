"""Readers of the entries that hadamem uses in infos, in the form in which Gymnasium's vector environments merge them."""

from typing import Any

import numpy as np


def inner_returns(info: dict[str, Any], i: int) -> tuple[float, ...]:
    """The returns of the inner episodes of the episode that ended in environment i; empty if its last info has none."""
    there = "inner_returns" in info and info["_inner_returns"][i]
    return tuple(info["inner_returns"][i].tolist()) if there else ()


def success(info: dict[str, Any], i: int) -> bool | None:
    """Whether the episode that ended in environment i succeeded; None if its last info does not say."""
    for key in ("success", "is_success"):
        if key in info and info[f"_{key}"][i]:
            return bool(info[key][i])
    return None


def at_goal(info: dict[str, Any], N: int) -> np.ndarray:
    """(N,) bool: the entry "at_goal" of this step's info, or of the final info if an episode ended with this step."""
    reached = np.zeros(N, np.bool_)
    for source in (info, info.get("final_info", {})):
        if "at_goal" in source:
            where = source["_at_goal"]
            reached[where] = source["at_goal"][where]
    return reached
