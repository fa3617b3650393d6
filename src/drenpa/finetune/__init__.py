"""Supervised fine-tuning: the corpus becomes the backbone of policy and critic."""
