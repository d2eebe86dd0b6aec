import pytest
import torch

from experiments.threads import torch_threads


@pytest.fixture(autouse=True)
def _no_choice_of_the_user(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


def test_threads_are_as_many_as_asked_for_and_then_as_before():
    before = torch.get_num_threads()
    with torch_threads(before + 2):
        assert torch.get_num_threads() == before + 2
    assert torch.get_num_threads() == before


def test_one_thread_remains_where_workers_take_every_core():
    with torch_threads(-3):
        assert torch.get_num_threads() == 1


def test_a_number_that_the_user_chose_stays(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = torch.get_num_threads()
    with torch_threads(before + 2):
        assert torch.get_num_threads() == before


def test_threads_are_as_before_after_an_error():
    before = torch.get_num_threads()
    with pytest.raises(RuntimeError), torch_threads(before + 2):
        raise RuntimeError
    assert torch.get_num_threads() == before
