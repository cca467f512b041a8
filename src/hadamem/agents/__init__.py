"""Learning algorithms, one readable file each, and what they share: rollouts, replay, training, evaluation."""

from .config import TrainConfig
from .evaluation import evaluate
from .ppo import PPO, PPOConfig
from .sac import SAC, SACConfig
from .training import load_policy, train

__all__ = ["PPO", "SAC", "PPOConfig", "SACConfig", "TrainConfig", "evaluate", "load_policy", "train"]
