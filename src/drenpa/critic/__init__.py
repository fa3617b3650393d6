"""A reward model that explains itself before it scores: expand, train, score."""
