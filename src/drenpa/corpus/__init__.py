"""From pages to a corpus: read, clean, classify, annotate, audit, deduplicate, split, release."""
