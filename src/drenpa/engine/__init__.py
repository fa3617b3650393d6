"""Where torch lives: models, chats, sampling, log-probabilities, the training loop."""
