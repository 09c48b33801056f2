"""The README's code runs as it stands."""

import re
from pathlib import Path

import pytest
import sklearn

README = Path(__file__).parent.parent / "README.md"


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_readme_code_runs_and_finds_the_held_out_digits():
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    assert len(blocks) >= 2
    names = {}
    with sklearn.config_context(display="text"):
        for block in blocks:
            exec(compile(block, str(README), "exec"), names)
    assert names["search"].best_score_ > 0.8
