"""Learning algorithms, one readable file each, and their shared parts: rollouts, replay, training, evaluation."""

from .config import TrainConfig
from .evaluation import evaluate
from .ppo import PPO, PPOConfig
from .r2d2 import R2D2, R2D2Config
from .sac import SAC, SACConfig
from .training import load_policy, train

__all__ = ["PPO", "R2D2", "SAC", "PPOConfig", "R2D2Config", "SACConfig", "TrainConfig", "evaluate", "load_policy", "train"]
