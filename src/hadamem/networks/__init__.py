"""Networks around a memory: encoders for any observation space, heads for any action space."""

from .actor_critic import ActorCritic, NetworkConfig
from .encoders import ObservationEncoder, PositionCode
from .heads import Categorical, Gaussian, SquashedGaussian, make_head
from .normalisation import ObservationNormaliser, RewardScale, ValueHead
from .policy import Policy
from .soft_actor_critic import MemoryChoice, QNetwork, SACNetworkConfig, SoftActor, TwinCritic

__all__ = [
    "ActorCritic",
    "Categorical",
    "Gaussian",
    "MemoryChoice",
    "NetworkConfig",
    "ObservationEncoder",
    "ObservationNormaliser",
    "Policy",
    "PositionCode",
    "QNetwork",
    "RewardScale",
    "SACNetworkConfig",
    "SoftActor",
    "SquashedGaussian",
    "TwinCritic",
    "ValueHead",
    "make_head",
]
