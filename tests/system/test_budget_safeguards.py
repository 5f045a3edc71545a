"""The commands that watch a ledger from outside, as an operator gives them."""

from __future__ import annotations

import shutil

from dpbeam.pipelines.cli.main import invoke


def said(capsys, *words: str, code: int = 0) -> str:
    assert invoke(list(words)) == code, capsys.readouterr().err
    found = capsys.readouterr()
    return found.err if code else found.err + found.out


def test_keys_checkpoints_and_a_witness_from_first_to_last(tmp_path, capsys, monkeypatch) -> None:
    ledger, key, trusted, witness = (str(tmp_path / name) for name in ("ledger.sqlite", "key", "trusted", "witness"))
    monkeypatch.setenv("DPBEAM_LEDGER", ledger)
    said(capsys, "budget", "key", "new", key, "--trusted-keys", trusted)
    monkeypatch.setenv("DPBEAM_SIGNING_KEY", key)
    monkeypatch.setenv("DPBEAM_WITNESS", witness)
    said(capsys, "budget", "create", "visits", "--epsilon", "1", "--delta", "1e-6")
    assert "nothing of it is signed" in said(capsys, "budget", "key", "list")
    assert "visits: entries up to 2 are signed with key " in said(capsys, "budget", "checkpoint")
    monkeypatch.setenv("DPBEAM_TRUSTED_KEYS", trusted)
    assert "2 entries" in said(capsys, "budget", "verify")
    shutil.copy(ledger, tmp_path / "backup")
    said(capsys, "budget", "key", "rotate", key, "--trusted-keys", trusted)
    assert "visits: entries up to 3 are signed with key " in said(capsys, "budget", "checkpoint", "visits")
    assert said(capsys, "budget", "key", "list").count("from entry") == 2
    said(capsys, "budget", "verify")
    shutil.copy(tmp_path / "backup", ledger)
    assert "Was it restored from a backup" in said(capsys, "budget", "checkpoint", code=3)
    assert "Was it restored from a backup" in said(capsys, "budget", "verify", code=3)
    (tmp_path / "witness").unlink()
    assert "doesn't exist" in said(capsys, "budget", "checkpoint", code=3)
    assert "knows 1 dataset(s)" in said(capsys, "budget", "witness", "new")
    said(capsys, "budget", "checkpoint")


def test_a_checkpoint_without_a_key_says_how_to_name_one(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("DPBEAM_LEDGER", str(tmp_path / "ledger.sqlite"))
    said(capsys, "budget", "create", "visits", "--epsilon", "1", "--delta", "1e-6")
    assert "name its file with --signing-key or DPBEAM_SIGNING_KEY" in said(capsys, "budget", "checkpoint", code=2)
