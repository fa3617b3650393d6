"""What every room of drenpa speaks: kinds, records, artefacts, prompts, roles, errors. Nothing here
imports torch."""
