"""Networks around a memory: encoders for any observation space, heads for any action space."""

from .actor_critic import ActorCritic, NetworkConfig
from .encoders import ObservationEncoder, PositionCode
from .heads import Categorical, Gaussian, make_head

__all__ = ["ActorCritic", "Categorical", "Gaussian", "NetworkConfig", "ObservationEncoder", "PositionCode", "make_head"]
