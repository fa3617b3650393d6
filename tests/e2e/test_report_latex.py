"""The report's LaTeX through a real TeX: it compiles, fits the page, and loses no sign."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.verdict_rows import verdicts

from drenpa.report.formats import to_latex
from drenpa.report.table import make_table
from drenpa.report.wide import wide_latex, wide_table

HARD = r"a_b & 50 % \input{x} #1 ~^$ <z>"
FONTS = r"""\usepackage{fontspec}
\newfontfamily\bofont{Noto Serif Tibetan}
\newfontfamily\zhfont{Noto Serif CJK SC}
"""

pytestmark = pytest.mark.slow


def compiled(engine: str, tables: str, folder: Path, preamble: str = "") -> str:
    """Compile a paper that takes the tables in; return TeX's log."""
    if shutil.which(engine) is None:
        pytest.skip(f"{engine} is not installed (Debian: texlive-xetex, texlive-latex-recommended)")
    (folder / "table.tex").write_text(tables, encoding="utf-8")
    text = "\\begin{document}\n\\input{table}\n\\end{document}\n"
    head = "\\documentclass{article}\n\\usepackage{booktabs,graphicx}\n"
    (folder / "paper.tex").write_text(head + preamble + text, encoding="utf-8")
    done = subprocess.run(
        [engine, "-interaction=nonstopmode", "-halt-on-error", "paper.tex"],
        cwd=folder,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert (folder / "paper.pdf").stat().st_size > 5000
    return (folder / "paper.log").read_text(errors="replace")


def assert_fits(log: str) -> None:
    assert "Overfull" not in log
    assert "Missing character" not in log
    assert "Float too large" not in log


@pytest.mark.parametrize("turns", [1, 2, 4])
def test_tables_compile_as_they_are_and_fit_the_page(turns: int, tmp_path: Path) -> None:
    rows = [
        row.model_copy(update={"strategy": f"{row.strategy} {turn}"})
        for turn in range(turns)
        for row in verdicts(model=HARD)
    ]
    table = make_table(rows, resamples=50)
    wide = wide_table(table, with_paper=True)
    tables = to_latex(table, HARD) + "\n" + wide_latex(wide, HARD)
    assert_fits(compiled("pdflatex", tables, tmp_path))


def test_names_in_tibetan_and_chinese_keep_every_sign(tmp_path: Path) -> None:
    fonts = subprocess.run(["fc-list"], capture_output=True, text=True, check=False).stdout
    if not re.search("Noto Serif Tibetan", fonts) or not re.search("Noto Serif CJK SC", fonts):
        pytest.skip("the fonts are not installed (Debian: fonts-noto-core, fonts-noto-cjk)")
    names = {"base": "གཞི་རྩ། base", "sft": "微调", "final": "final, 最终 མཐའ་མ།"}
    rows = [
        row.model_copy(update={"strategy": names[row.strategy]}) for row in verdicts(model="བོད་ 1")
    ]
    table = make_table(rows, resamples=50)
    tables = to_latex(table, "དྲན་པ། 记忆") + "\n" + wide_latex(wide_table(table), "དྲན་པ།")
    assert_fits(compiled("xelatex", tables, tmp_path, FONTS))
