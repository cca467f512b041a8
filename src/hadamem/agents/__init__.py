"""Learning algorithms, one readable file each, and what they share: rollouts, training, evaluation."""

from .evaluation import evaluate
from .ppo import PPO, PPOConfig
from .training import TrainConfig, load_policy, train

__all__ = ["PPO", "PPOConfig", "TrainConfig", "evaluate", "load_policy", "train"]
