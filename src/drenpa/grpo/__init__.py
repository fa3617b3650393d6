"""Reinforcement learning: the policy learns from the critic's scores of its own answers."""
