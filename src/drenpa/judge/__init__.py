"""Policy × questions → verdicts: the rubric, the judges, and the benchmark that runs them."""
