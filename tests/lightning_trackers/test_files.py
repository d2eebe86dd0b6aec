import errno
import os

import pytest

from lightning_trackers.files import atomic_file, write_text


def test_text_arrives_whole_in_a_new_folder(tmp_path):
    write_text(tmp_path / "a" / "b.txt", "né\n")
    assert (tmp_path / "a" / "b.txt").read_text(encoding="utf-8") == "né\n"
    assert [f.name for f in (tmp_path / "a").iterdir()] == ["b.txt"]


def test_an_interruption_keeps_the_earlier_file(tmp_path):
    file = tmp_path / "b.txt"
    write_text(file, "earlier")

    def interrupted():
        with atomic_file(file) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert file.read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_leaves_nothing_and_says_what_to_do(tmp_path, monkeypatch, code):
    def full(descriptor):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"disk is full.*free some space.*b\.txt") as caught:
        write_text(tmp_path / "b.txt", "text")
    assert caught.value.errno == code
    assert list(tmp_path.iterdir()) == []


def test_other_errors_pass_unchanged(tmp_path):
    (tmp_path / "folder").write_text("a file where a folder should be")
    with pytest.raises(FileExistsError):
        write_text(tmp_path / "folder" / "b.txt", "text")
