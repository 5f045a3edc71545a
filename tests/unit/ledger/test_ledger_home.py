"""A ledger in the home folder, as people write it: `sqlite:///~/x` is no folder called `~`."""

from __future__ import annotations

import pytest

from dpbeam.errors import LedgerError
from dpbeam.ledger import open_ledger
from dpbeam.ledger.amounts import Amount


@pytest.fixture
def folders(tmp_path, monkeypatch):
    (home := tmp_path / "home").mkdir()
    (here := tmp_path / "here").mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(here)
    return home, here


@pytest.mark.parametrize("url", ["sqlite:///~/deep/x.sqlite", "~/deep/x.sqlite"])
def test_a_path_from_the_home_folder_lies_there(folders, url) -> None:
    home, here = folders
    open_ledger(url, create=True).create_budget("d", Amount.cap("1", "1e-6"))
    assert open_ledger(f"sqlite:///{home}/deep/x.sqlite").balance("d").left == Amount.cap("1", "1e-6")
    assert list(here.iterdir()) == []


def test_a_ledger_in_a_folder_called_so_is_never_left_for_another(folders) -> None:
    _, here = folders
    (here / "~").mkdir()
    open_ledger("./~/x.sqlite", create=True).create_budget("d", Amount.cap("1", "1e-6"))
    with pytest.raises(
        LedgerError, match=r"lies in a folder called ~ here, .*name it \./~/x.sqlite, or write the home"
    ):
        open_ledger("sqlite:///~/x.sqlite")
    assert open_ledger("sqlite:///./~/x.sqlite").balance("d").left == Amount.cap("1", "1e-6")


def test_a_home_that_is_not_known_is_said(folders) -> None:
    with pytest.raises(LedgerError, match="the home folder isn't known; write the whole path"):
        open_ledger("sqlite:///~nobody-of-this-name/x.sqlite", create=True)
