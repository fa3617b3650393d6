"""What stands behind the commands that are no stage: each knows the stages and none knows it."""
