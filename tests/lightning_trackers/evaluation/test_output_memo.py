import pytest
import torch

from lightning_trackers.evaluation.output_memo import OutputMemo

A, B, C = (1, 0, 0, 0), (1, 2, -3, 4), (2, 0, 0, 0)


def answers(*values):
    return (
        torch.tensor(values)[:, None, None].expand(-1, 2, 3) + torch.arange(3.0),
        -torch.tensor(values)[:, None],
    )


def test_answers_come_back_in_the_order_asked_for(tmp_path):
    memo = OutputMemo(tmp_path)
    memo.add([A, B], answers(1.0, 2.0))
    memo.add([C], answers(3.0))
    maps, numbers = OutputMemo(tmp_path).read([C, A, C])
    torch.testing.assert_close(maps, answers(3.0, 1.0, 3.0)[0])
    assert numbers[:, 0].tolist() == [-3, -1, -3]
    assert A in memo
    assert (9, 9, 9, 9) not in memo
    assert len(memo) == 3


def test_another_process_s_answers_are_seen_after_a_refresh(tmp_path):
    mine, other = OutputMemo(tmp_path), OutputMemo(tmp_path)
    other.add([A], answers(1.0))
    assert A not in mine
    mine.refresh()
    assert mine.read([A])[1].item() == -1


@pytest.mark.parametrize("cut", ["records.f32", "keys.i32"])
def test_an_interrupted_write_loses_that_answer_alone(tmp_path, cut):
    memo = OutputMemo(tmp_path)
    memo.add([A], answers(1.0))
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    memo.add([B], answers(2.0))
    # Records are written before keys: the second key is missing, or half there.
    keys = (tmp_path / "keys.i32").read_bytes()
    (tmp_path / "keys.i32").write_bytes(keys[: 16 if cut == "records.f32" else 24])
    if cut == "records.f32":
        records = (tmp_path / cut).read_bytes()
        (tmp_path / cut).write_bytes(records[: len(before[cut]) + 5])
    again = OutputMemo(tmp_path)
    assert len(again) == 1
    again.add([C], answers(3.0))
    numbers = OutputMemo(tmp_path).read([A, C])[1]
    assert numbers[:, 0].tolist() == [-1, -3]


def test_answers_of_another_shape_are_refused(tmp_path):
    memo = OutputMemo(tmp_path)
    memo.add([A], answers(1.0))
    with pytest.raises(ValueError, match="expected answers of shapes"):
        memo.add([B], (torch.zeros(1, 5),))


def test_a_note_is_kept(tmp_path):
    memo = OutputMemo(tmp_path)
    assert memo.note == {}
    memo.write_note({"frame_wh": [320, 240]})
    assert OutputMemo(tmp_path).note == {"frame_wh": [320, 240]}
