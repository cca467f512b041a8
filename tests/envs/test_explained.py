"""Tasks explain themselves."""

from __future__ import annotations

import gymnasium
import pytest

from hadamem.envs.explained import explain
from hadamem.envs.tasks import options_of
from hadamem.envs.worlds import WORLDS


class Dated(gymnasium.Env):
    """Guess the day.

    Args:
        year: year of the calendar.
    """

    observation_space = gymnasium.spaces.Discrete(365)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, year: int = 2000, *, leap: bool = False, render_mode: str | None = None, **more: object) -> None: ...


class Undated(Dated):
    pass


class Silent(gymnasium.Env):
    observation_space, action_space = Dated.observation_space, Dated.action_space


@pytest.mark.parametrize("id", WORLDS)
def test_every_option_of_our_tasks_is_explained(id: str) -> None:
    about, options = explain(id)
    assert [option.option.partition("=")[0] for option in options] == list(options_of(id))
    assert not [option for option in options if len(option.meaning) < 5]
    assert "steps of an episode: at most " in about


@pytest.mark.parametrize("name", ["Dated", "Undated"])
def test_a_class_of_the_users_is_explained_by_its_docstring(name: str) -> None:
    about, options = explain(f"{__name__}:{name}")
    assert about == "observation: Discrete(365)\naction: Discrete(2)\n\nGuess the day."
    assert [option.option for option in options] == ["year=2000", "leap=false"]
    assert [option.meaning for option in options] == ["year of the calendar.", ""]


def test_nothing_is_said_of_a_class_without_a_docstring() -> None:
    assert explain(f"{__name__}:Silent") == ("observation: Discrete(365)\naction: Discrete(2)", [])


def test_gymnasiums_own_have_descriptions_and_limits() -> None:
    about, options = explain("CartPole-v1")
    assert "steps of an episode: at most 500" in about
    assert "A pole is attached by an un-actuated joint" in about
    assert "sutton_barto_reward=false" in [option.option for option in options]


def test_unknown_ids_are_answered() -> None:
    with pytest.raises(ValueError, match=r"unknown environment 'CartPol-v1'; did you mean CartPole-v1"):
        explain("CartPol-v1")
