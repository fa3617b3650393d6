"""Thin bridges to other tools, each optional.

`bench_folder` writes a recipe's benchmark as a folder that lm-eval, inspect and OpenCompass run
without a change to them; `scoring` is the one function by which all of them score; `results` reads
what they found back; `hub` pushes and loads corpora, policies, critics and reports.
"""
