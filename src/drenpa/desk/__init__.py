"""The annotation desk: a small web app over the rounds of `corpus.rounds`."""
