"""What a training tells on the terminal."""

import pytest

from stages.lib.shell import epochs


def row(epoch, phase=0, best=False, **figures):
    values = {"train_loss": 0.4567, "val_loss": 0.4, "val_balanced_accuracy": 0.875, "val_other": 1.0} | figures
    return {"phase": phase, "epoch": epoch, "lr_head": 0.1, **values, "best": best, "time_ms": 1}


def test_each_epoch_is_a_line_of_less_than_80_columns():
    history = [row(1, best=True)]
    expected = "epoch  1/15  loss 0.457  val 0.400  balanced accuracy 0.875  best  42 s left"
    assert epochs.line(history, [15], 42.4) == expected
    history = [row(number) for number in (1, 2)] + [row(3, phase=1)]
    line = epochs.line(history, [2, 5], 0)
    assert line == "phase 2/2  epoch 1/5  loss 0.457  val 0.400  balanced accuracy 0.875"
    assert len(epochs.line([row(1, phase=1, best=True)], [20, 15], 99)) < 90


def test_the_time_left_is_that_of_the_epochs_of_this_phase_in_this_process():
    history = [row(1), row(2), row(3, phase=1), row(4, phase=1)]
    assert epochs.seconds_left(history[:1], [2, 4], 100, [(0, 110)]) == 50
    ends = [(0, 110), (0, 120), (1, 123), (1, 126)]
    assert epochs.seconds_left(history, [2, 4], 100, ends) == 2 * 3
    assert epochs.seconds_left(history, [2, 4], 100, [(1, 104)]) == 2 * 4, "resumed"


def test_at_the_end_the_best_epoch_stands_and_whether_it_was_the_last(capsys):
    history = [row(1, best=True, val_loss=0.5), row(2, best=True, val_loss=0.3), row(3)]
    with epochs.told("target mono-0", [3]) as tell:
        for num in (1, 2, 3):
            tell(history[:num])
    *lines, last = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["1/3", "2/3", "3/3"]
    assert last == "target mono-0: best epoch 2 of 3 (validation loss 0.300, balanced accuracy 0.875), 0 s"
    assert epochs.end("scratch 0", history[:2], [2], 130).splitlines() == [
        "scratch 0: best epoch 2 of 2 (validation loss 0.300, balanced accuracy 0.875), 2 min",
        "The best epoch was the last one: more epochs may help.",
    ]
    assert "more epochs" not in epochs.end("scratch 0", history[:2], [3], 1), "it was stopped before"
    gradual = [row(1, best=True), row(2, phase=1, best=True)]
    assert "more epochs" in epochs.end("t", gradual, [1, 1], 1) and "more epochs" not in epochs.end("t", gradual[:1], [1, 1], 1)


def test_a_training_that_fails_or_has_no_epochs_tells_no_end(capsys):
    with epochs.told("advise", []):
        pass
    with pytest.raises(ZeroDivisionError), epochs.told("target mono-0", [3]) as tell:
        tell([row(1)])
        raise ZeroDivisionError
    assert capsys.readouterr().out.count("\n") == 1


def test_the_seconds_of_a_training_add_up_over_the_processes_in_which_it_ran(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    assert epochs.seconds_of("k") is None
    epochs.note_seconds("k", 10.04, resumed=False)
    epochs.note_seconds("k", 5, resumed=True)
    assert epochs.seconds_of("k") == 15
    epochs.note_seconds("k", 4, resumed=False)
    assert epochs.seconds_of("k") == 4, "trained anew"
