"""What is read from the infos of environments, as Gymnasium's vectors of environments merge them."""

from typing import Any

import numpy as np


def inner_returns(info: dict[str, Any], i: int) -> tuple[float, ...]:
    """The returns of the inner episodes of the episode that ended in environment i, if its last info tells."""
    there = "inner_returns" in info and info["_inner_returns"][i]
    return tuple(info["inner_returns"][i].tolist()) if there else ()


def success(info: dict[str, Any], i: int) -> bool | None:
    """Whether the episode that ended in environment i succeeded, if its last info tells."""
    for key in ("success", "is_success"):
        if key in info and info[f"_{key}"][i]:
            return bool(info[key][i])
    return None


def at_goal(info: dict[str, Any], N: int) -> np.ndarray:
    """(N,) bool: "at_goal" of the info of this step, which for an episode that ended lies in its final info."""
    reached = np.zeros(N, np.bool_)
    for source in (info, info.get("final_info", {})):
        if "at_goal" in source:
            where = source["_at_goal"]
            reached[where] = source["at_goal"][where]
    return reached
