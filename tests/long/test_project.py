"""The examiner's verdicts on worked solutions, and on programs that break one demand each."""

from __future__ import annotations

import os
import shutil
from collections import Counter

import pytest

from chapters.project import exam
from chapters.project.start import start
from chapters.project.trials import TRIALS
from tests.long.broken_projects import SHORTER, SOLUTIONS, Broken, broken

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the examiner needs Linux or macOS")
BROKEN = list(broken())


@pytest.mark.parametrize("name", SHORTER)
def test_a_solution_passes_all_trials(name, tmp_path):
    shutil.copy(SOLUTIONS / f"{name}.py", tmp_path / "project.py")
    before = sorted(tmp_path.iterdir())
    result = exam.examine(tmp_path / "project.py", jobs=2, final=True)
    assert result.passed == len(TRIALS), str(result)
    assert len(result.figures) == 2
    assert sorted(tmp_path.iterdir()) == before


def test_each_trial_has_three_programs_that_it_refuses():
    counts = Counter(one.trial for one in BROKEN)
    assert counts.keys() == {trial.name for trial in TRIALS} and min(counts.values()) >= 3


@pytest.mark.parametrize("one", BROKEN, ids=[f"{b.trial}-{n}" for n, b in enumerate(BROKEN)])
def test_a_broken_program_is_refused_by_its_trial(one):
    verdict = one.verdicts([one.trial])[one.trial]
    assert verdict.passed is False and one.says in verdict.said, verdict


@pytest.mark.parametrize("name", ["best", "last"])
def test_a_program_without_a_checkpoint_is_examined_to_the_end(name, tmp_path):
    program = tmp_path / "project.py"
    text = Broken("trains", "plain", says="", edit=()).source()
    assert f'"{name}.pt"' in text
    program.write_text(text.replace(f'"{name}.pt"', '"other.pt"'))
    result = exam.examine(program, jobs=2)
    assert [v.trial for v in result.verdicts] == [trial for trial in TRIALS if not trial.final]
    assert [v.trial.name for v in result.verdicts if v.passed is False] == ["trains"], str(result)


def test_the_empty_program_fails_one_trial_and_can_not_be_tried_by_others(tmp_path):
    program = start(tmp_path)
    result = exam.examine(program, jobs=2, final=True)
    passed = {verdict.trial.name: verdict.passed for verdict in result.verdicts}
    assert passed.pop("trains") is False and passed.pop("folder") is True
    assert set(passed.values()) == {None}
