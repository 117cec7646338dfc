"""The address that a checkout's links lead to, and a fork that makes them its own."""

import shutil
import subprocess
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import checkout
from helpers.checkout import CourseError
from tools import stamp
from tools.__main__ import main
from tools.repository import Repository, parse_url, repository

ROOT = checkout.root()
HOME = repository(ROOT)
FORK = Repository("ada", "fork", "trunk")

FORMS = (
    "https://github.com/{}",
    "https://github.com/{}.git",
    "https://github.com/{}/",
    "https://ada@github.com/{}.git",
    "https://ada:token@github.com/{}.git",
    "https://github.com:443/{}",
    "git@github.com:{}.git",
    "git@github.com:{}",
    "ssh://git@github.com/{}.git",
    "ssh://git@github.com:22/{}.git",
    "ssh://git@ssh.github.com:443/{}.git",
    "github.com/{}",
)
BAD = (
    "",
    "course",
    "https://example.org/ada/course",
    "https://github.com.example.org/ada/course",
    "https://github.com/ada",
    "git@github.com:a/b/c",
    "https://github.com/ada/course?tab=readme",
    'https://github.com/ada/co"urse',
)


@given(
    st.sampled_from(FORMS),
    st.sampled_from(["ada", "Ada-L", "a1", "22"]),
    st.sampled_from(["course", "my.course", "c_1-x"]),
)
def test_every_form_of_an_address_gives_owner_and_name(form, owner, name):
    assert parse_url(form.format(f"{owner}/{name}")) == (owner, name)


@pytest.mark.parametrize("address", BAD)
def test_any_other_text_is_refused_with_the_expected_form(address):
    with pytest.raises(CourseError, match="expected https://github.com/OWNER/NAME"):
        parse_url(address)


def test_a_token_gets_into_no_message():
    with pytest.raises(CourseError) as caught:
        parse_url("https://ada:secret@example.org/ada/course")
    assert "secret" not in str(caught.value)
    assert "https://example.org/ada/course" in str(caught.value)


# A fork


def copied_course(folder):
    """The files of this checkout that adopt looks at, with every generated part up to date."""
    shutil.copytree(ROOT / "notebooks", folder / "notebooks")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    for path, text in stamp.outdated(folder).items():
        path.write_bytes(text.encode())
    return folder


@pytest.fixture(scope="module")
def upstream(tmp_path_factory):
    """A repository with the course as it stands here."""
    course = copied_course(tmp_path_factory.mktemp("upstream") / "course")
    git(course, "init", "--quiet", "--initial-branch", HOME.branch)
    git(course, "add", ".")
    git(course, "-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-m", "All")
    return course


@pytest.fixture
def clone(upstream, tmp_path, monkeypatch):
    """A clone of it, which the commands take for theirs."""
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", upstream, clone], check=True)
    monkeypatch.setattr(checkout, "root", lambda: clone)
    return clone


def git(folder, *words):
    done = subprocess.run(["git", "-C", folder, *words], capture_output=True, text=True)
    return done.stdout.strip()


def tracked(folder):
    """The text of every tracked file by its name."""
    return {name: (folder / name).read_text("utf-8") for name in git(folder, "ls-files").split()}


def in_words_of_home(text):
    """What a text about ada's fork would be at home."""
    for fork, home in (
        (FORK.slug, HOME.slug),
        (FORK.site, HOME.site),
        (f"/blob/{FORK.branch}/", f"/blob/{HOME.branch}/"),
        (f"{HOME.slug}@{FORK.branch}", f"{HOME.slug}@{HOME.branch}"),
        (f'branch = "{FORK.branch}"', f'branch = "{HOME.branch}"'),
        (f"cd {FORK.name}\n", f"cd {HOME.name}\n"),
    ):
        text = text.replace(fork, home)
    return text


@pytest.mark.parametrize("form", [FORMS[0], FORMS[4], FORMS[6]])
def test_a_fork_adopts_its_remote_and_its_default_branch_and_nothing_else(form, clone, capsys):
    before = tracked(clone)
    git(clone, "remote", "set-url", "origin", form.format(FORK.slug))
    git(clone, "update-ref", f"refs/remotes/origin/{FORK.branch}", "HEAD")
    git(clone, "remote", "set-head", "origin", FORK.branch)
    assert main(["adopt"]) == 0
    assert f"{FORK.url}, branch {FORK.branch}" in capsys.readouterr().out
    assert repository(clone) == FORK
    after = tracked(clone)
    for address in (HOME.slug, HOME.site):
        assert [name for name, text in after.items() if address in text] == []
    assert {name for name in before if after[name] == before[name]} == {"LICENSE"}
    assert {name: in_words_of_home(text) for name, text in after.items()} == before
    assert main(["stamp", "--check"]) == 0


def test_without_a_known_branch_the_former_one_stays(clone):
    git(clone, "remote", "set-url", "origin", FORK.url)
    git(clone, "remote", "set-head", "origin", "--delete")
    assert main(["adopt"]) == 0
    assert repository(clone) == replace(FORK, branch=HOME.branch)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param([BAD[2]], "cannot read the repository's address", id="address"),
    ]
    + [
        pytest.param([HOME.url, f"--branch={branch}"], "cannot use the branch", id=branch)
        for branch in ("", "two words", 'a"b', "-x", "x\n")
    ],
)
def test_what_cannot_be_adopted_is_named_and_changes_nothing(words, said, clone, capsys):
    assert main(["adopt", *words]) == 1
    assert said in capsys.readouterr().err
    assert git(clone, "status", "--porcelain") == ""


@pytest.mark.parametrize(
    "remote", [f"https://ada:secret@example.org/{FORK.slug}.git", "/srv/git/fork.git", ""]
)
def test_a_remote_elsewhere_changes_nothing(remote, clone, capsys):
    if remote:
        git(clone, "remote", "set-url", "origin", remote)
    else:
        git(clone, "remote", "remove", "origin")
    assert main(["adopt"]) == 1
    said = capsys.readouterr().err
    assert "https://github.com/OWNER/NAME" in said
    assert "secret" not in said
    assert git(clone, "status", "--porcelain") == ""


def test_where_there_is_no_git_an_address_is_asked_for(clone, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    assert main(["adopt"]) == 1
    assert "python -m tools adopt https://github.com/OWNER/NAME" in capsys.readouterr().err


def test_a_checkout_that_cannot_be_stamped_is_not_half_adopted(clone, capsys):
    readme = (clone / "README.md").read_text("utf-8")
    (clone / "README.md").write_text(readme.replace("<!-- badges -->", ""), "utf-8")
    before = git(clone, "diff")
    assert main(["adopt", FORK.url]) == 1
    assert "README.md has no region 'badges'" in capsys.readouterr().err
    assert git(clone, "diff") == before
