"""A run that was interrupted, whenever and however, ends as if it had not been: bit for bit."""

import pytest

from jaxdigits import loop, resume, train
from jaxdigits.checkpoint import MODEL_FILE, load_model
from jaxdigits.interrupts import Interrupted
from jaxdigits.last_snapshot import LAST_FILE
from jaxdigits.lock import LOCK_FILE
from jaxdigits.runs import BEST_FILE
from tests.resuming.conftest import UPDATES, Killed, at, at_epoch, interrupt, kill, same


@pytest.mark.usefixtures("every_update")
@pytest.mark.parametrize(("update", "stop"), [(1, kill), (9, interrupt), (11, kill), (28, interrupt)])
def test_a_run_that_stopped_ends_like_one_that_did_not(run, whole, tmp_path, update, stop):
    with pytest.raises((Interrupted, Killed)):
        run(on_progress=at(update, stop))
    assert resume.ended(tmp_path / "run") is None
    assert not (tmp_path / "run" / MODEL_FILE).exists()
    heard: list[str] = []
    ended = train(resume=str(tmp_path / "run"), say=heard.append)
    same(ended, whole)
    assert 0 < int(heard[-1].split(", ")[1].split()[0]) < UPDATES  # it did not begin again


@pytest.mark.usefixtures("every_update")
def test_a_run_may_stop_again_and_again(run, whole, tmp_path):
    with pytest.raises(Interrupted):
        run(on_progress=at(2, interrupt))
    for update in (5, 12, 17, 26):
        with pytest.raises((Interrupted, Killed)):
            train(resume=str(tmp_path / "run"), on_progress=at(update, interrupt if update % 2 else kill))
    same(train(resume=str(tmp_path / "run")), whole)


@pytest.mark.usefixtures("whole_epochs")
@pytest.mark.parametrize("stop", [interrupt, pytest.param(kill, marks=pytest.mark.slow)])
def test_a_run_of_whole_epochs_ends_like_one_that_did_not_stop(run, tmp_path, stop):
    undisturbed = run(run_dir=str(tmp_path / "undisturbed"))
    with pytest.raises((Interrupted, Killed)):
        run(on_epoch=at_epoch(2, stop))
    heard: list[str] = []
    same(train(resume=str(tmp_path / "run"), say=heard.append), undisturbed)
    assert int(heard[-1].split(", ")[1].split()[0]) in (10, 20)


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_again(run, whole, tmp_path):
    with pytest.raises(Killed):
        run(checkpoint_seconds=1000.0, on_epoch=lambda _: kill())
    assert not (tmp_path / "run" / LAST_FILE).exists()
    same(train(resume=str(tmp_path / "run"), checkpoint_seconds=0.0), whole)


def test_what_a_kill_leaves_half_written_is_cleared_away(run, whole, tmp_path):
    with pytest.raises(Interrupted):
        run(on_epoch=lambda _: interrupt())
    left = [tmp_path / "run" / name for name in (f".{LAST_FILE}.abc.tmp", f".{BEST_FILE}.abc.tmp", LOCK_FILE)]
    for path in left:
        path.write_bytes(b"half")
    with (tmp_path / "run" / "metrics.jsonl").open("a") as lines:
        lines.write('{"epoch": 2, "st')
    same(train(resume=str(tmp_path / "run")), whole)
    assert not any(path.exists() for path in left)


def test_the_best_is_on_the_disk_though_the_last_epoch_alone_was_resumed(run, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "_rank", lambda metrics: metrics["epoch"])  # each is better than the one before
    with pytest.raises(Interrupted):
        run(checkpoint_seconds=1000.0, on_epoch=at_epoch(2, interrupt))
    train(resume=str(tmp_path / "run"))
    assert load_model(tmp_path / "run" / BEST_FILE).figures["epoch"] == 3
