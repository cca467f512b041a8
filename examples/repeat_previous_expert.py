"""Record a perfect player of RepeatPrevious as a data set of Minari, for `hadamem clone`.

The player names the card that it saw some steps ago, which a program can keep in a list, and a network has to remember.

    python examples/repeat_previous_expert.py --env popgym-RepeatPreviousMedium-v0 --id expert/repeat-previous-medium-v0
    hadamem clone expert/repeat-previous-medium-v0 --memory shm --out runs/cloned
"""

from __future__ import annotations

import argparse
from typing import Any

import gymnasium
import minari
import popgym  # noqa: F401  registers the environments

from hadamem.deploy.recording import play_episode


class Expert:
    """A player that repeats the observation of `lag` steps ago."""

    def __init__(self, lag: int) -> None:
        self.lag, self.seen = lag, list[Any]()

    def choose(self, observation: Any, reward: float, info: dict[str, Any]) -> Any:
        """The action for an observation."""
        self.seen.append(observation)
        return self.seen[max(0, len(self.seen) - 1 - self.lag)]


def main() -> None:
    """Record the episodes, and print their mean return."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="popgym-RepeatPreviousMedium-v0", help="a RepeatPrevious task")
    parser.add_argument("--id", default="expert/repeat-previous-medium-v0", help="id of the data set")
    parser.add_argument("--episodes", type=int, default=1000)
    given = parser.parse_args()
    env = gymnasium.make(given.env, disable_env_checker=True)
    played = [play_episode(env, Expert(env.unwrapped.k - 1).choose, seed) for seed in range(given.episodes)]
    minari.create_dataset_from_buffers(given.id, played, env, algorithm_name="says what it saw some steps ago")
    mean = sum(sum(episode.rewards) for episode in played) / len(played)
    print(f"{given.id}: {given.episodes} episodes with a mean return of {mean:.3f}")


if __name__ == "__main__":
    main()
