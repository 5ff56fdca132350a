"""What runs in CI is what was looked at: pinned, and with few rights."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import counts
import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.y*ml"))
# A tag can be moved to other code, a commit cannot; the comment is for us.
PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")
# Which jobs may write, and what. All others read the sources only.
WRITERS = {
    ("book.yml", "publish"): {"pages", "id-token"},
    ("weekly.yml", "report"): {"issues"},
}

every_workflow = pytest.mark.parametrize(
    "path", WORKFLOWS, ids=lambda path: path.name
)


def steps(text: str) -> Iterator[dict]:
    """Every step, and every job that is another workflow."""
    for job in yaml.safe_load(text)["jobs"].values():
        yield job
        yield from job.get("steps", ())


def unpinned(text: str) -> list[str]:
    """The actions that are not pinned to a commit, with its version."""
    used = [step["uses"] for step in steps(text) if "uses" in step]
    written = re.findall(r"\buses['\"]?[ \t]*:[ \t]*(\S.*)", text)
    assert len(used) == len(written), "an action is written in another way"
    return [line for line in written if not PINNED.fullmatch(line)]


def test_there_are_workflows():
    assert {path.name for path in WORKFLOWS} == {"book.yml", "weekly.yml"}


@every_workflow
def test_every_action_is_pinned_to_a_commit(path):
    text = path.read_text("utf-8")
    assert "uses:" in text
    assert unpinned(text) == []


@pytest.mark.parametrize(
    "action",
    [
        "actions/checkout@v4",
        "actions/checkout@main",
        "actions/checkout@" + "a" * 40,
        "actions/checkout@" + "a" * 40 + " # newest",
        "actions/checkout@" + "a" * 39 + " # v4.0.0",
        "docker://alpine:3",
        "./.github/actions/own",
    ],
)
def test_an_action_that_is_not_pinned_is_noticed(action):
    step = "jobs:\n  a:\n    steps:\n      - uses: "
    pinned = "actions/checkout@" + "a" * 40 + " # v4.0.0"
    assert unpinned(step + pinned) == []
    assert unpinned(step + action) == [action]
    job = "jobs:\n  a:\n    uses: "  # a workflow of somebody else
    assert unpinned(job + action) == [action]
    with pytest.raises(AssertionError, match="another way"):
        unpinned(step + "\n          " + action)


def test_an_action_has_one_version():
    used = {
        step["uses"] for path in WORKFLOWS
        for step in steps(path.read_text("utf-8")) if "uses" in step
    }  # fmt: skip
    names = [action.partition("@")[0] for action in used]
    assert len(names) == len(set(names)) == 4, used


@every_workflow
def test_jobs_have_no_more_rights_than_they_need(path):
    flow = yaml.safe_load(path.read_text("utf-8"))
    assert flow["permissions"] == {"contents": "read"}
    for name, job in flow["jobs"].items():
        rights = job.get("permissions", {})
        writes = {what for what, how in rights.items() if how == "write"}
        assert writes == WRITERS.get((path.name, name), set()), name
        assert job["timeout-minutes"] <= 60, name


@every_workflow
def test_steps_leave_no_token_and_take_no_words_from_outside(path):
    for step in steps(path.read_text("utf-8")):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False
        # what an expression yields would be run as part of the script
        assert "${{" not in step.get("run", "")


def commands(text: str) -> set[str]:
    """What a script asks make for."""
    asked = re.findall(r"^[ \t]*(?:- run: |run: )?make (.*)$", text, re.M)
    words = {word for line in asked for word in line.split()}
    return {word for word in words if "=" not in word}


def test_a_push_runs_all_that_can_turn_red_in_minutes():
    asked = {
        "lint", "types", "stale", "test", "book", "browser", "faults",
        "variants",
    }  # fmt: skip
    for script in (".ci/run", ".github/workflows/book.yml"):
        assert commands((ROOT / script).read_text("utf-8")) == asked, script


def test_every_weekly_job_is_reported():
    (weekly,) = [path for path in WORKFLOWS if path.name == "weekly.yml"]
    jobs = yaml.safe_load(weekly.read_text("utf-8"))["jobs"]
    report = jobs.pop("report")
    assert set(report["needs"]) == set(jobs)
    assert report["if"] == (
        "failure() || cancelled() || contains(needs.*.result, 'cancelled')"
    )
    assert f"make audit MINUTES={counts.WEEKLY} " in weekly.read_text("utf-8")
    (step,) = report["steps"]
    for name in jobs:
        assert f"${name.upper()}." in step["run"], name
        assert step["env"][name.upper()] == f"${{{{ needs.{name}.result }}}}"
