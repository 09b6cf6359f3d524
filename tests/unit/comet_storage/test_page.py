"""The state page: what readers may believe of it, and how it is made whole."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from comet_storage._format.state_page import HINT_NUMBER, HINT_POSITION, MAGIC_WORD, PAGE_MAGIC, PUBLISHED, Durable
from comet_storage._os.door import Door
from comet_storage._os.pwrite import PwriteWords
from comet_storage._shard.page import ReaderPage, WriterPage
from tests.support.engine import PAGE, free_reserve


@pytest.fixture
def path(tmp_path) -> str:
    """Where the page is."""
    return str(tmp_path / "state")


def publish(page: WriterPage, position: int, number: int) -> None:
    """Claim the page as a writer does."""
    page.write_identity(page.make_identity(1))
    page.publish(position, number, generation=1, active=0, allocated=0, ceiling=number + 10)


@pytest.mark.parametrize("mapped", [True, False], ids=["mmap", "pwrite"])
def test_a_reader_sees_what_a_writer_stores(mapped, path) -> None:
    """Position and number, through a map or by pwrite, in the order in which they are stored."""
    page = WriterPage(Door(), path, mapped=mapped, reserve=free_reserve)
    reader = ReaderPage(Door(), path)
    assert reader.published() is None
    publish(page, 4096, 7)
    assert (reader.published(), reader.next_number(), reader.of_this_boot()) == (4096, 7, True)
    page.words[PUBLISHED] = 8192
    assert (reader.published(), reader.next_number(), reader.number_at(8192)) == (8192, None, None)
    page.words[HINT_NUMBER] = 9
    page.words[HINT_POSITION] = 8192
    assert (reader.next_number(), reader.number_at(8192), reader.number_at(4096)) == (9, 9, None)
    reader.close()
    page.close()


def test_a_missing_short_or_foreign_page_is_not_believed(path) -> None:
    """Without the magic, the size or the boot, a page says nothing."""
    reader = ReaderPage(Door(), path)
    assert (reader.published(), reader.next_number(), reader.of_this_boot()) == (None, None, False)
    Path(path).write_bytes(b"\xff" * 100)
    reader.refresh()
    assert reader.published() is None

    class OtherBoot(Door):
        def boot_id(self) -> bytes:
            return b"x" * 16

    page = WriterPage(OtherBoot(), path, mapped=True, reserve=free_reserve)
    publish(page, 4096, 7)
    reader.refresh()
    assert (reader.published(), reader.of_this_boot()) == (4096, False)
    page.words[MAGIC_WORD] = PAGE_MAGIC ^ 1
    assert reader.published() is None
    page.close()
    reader.close()


def test_a_replaced_page_is_noticed_by_both_sides(path) -> None:
    """A file with another inode in its place is another page."""
    page = WriterPage(Door(), path, mapped=True, reserve=free_reserve)
    publish(page, 4096, 7)
    reader = ReaderPage(Door(), path)
    assert reader.published() == 4096
    Path(path).rename(f"{path}.old")
    assert not page.is_named()
    other = WriterPage(Door(), path, mapped=True, reserve=free_reserve)
    publish(other, 8192, 9)
    assert reader.published() == 4096
    reader.refresh()
    assert reader.published() == 8192
    for opened in (page, other, reader):
        opened.close()


def test_slots_alternate_and_the_newer_one_counts(path) -> None:
    """The durable position survives the loss of the slot that is being written."""
    page = WriterPage(Door(), path, mapped=True, reserve=free_reserve)
    assert page.durable() is page.identity() is None
    for number in range(1, 4):
        page.write_durable(Durable(number * 8, number, 100))
    assert page.durable() == Durable(24, 3, 100)
    with Path(path).open("r+b") as file:
        file.seek(1536)
        file.write(bytes(512))
    assert page.durable() == Durable(16, 2, 100)
    page.close()


@pytest.mark.parametrize("size", [0, 100, PAGE])
def test_a_page_without_blocks_gets_them_before_it_is_mapped(size, path) -> None:
    """A store to a hole of a mapped file would be fatal on a full volume."""
    with Path(path).open("wb") as file:
        file.truncate(size)
    page = WriterPage(Door(), path, mapped=True, reserve=free_reserve)
    assert Path(path).stat().st_size == PAGE
    assert Path(path).stat().st_blocks * 512 >= PAGE
    page.close()


def test_a_hint_that_cannot_be_stored_is_left_out(path) -> None:
    """By then the append is published and may not fail; number and position change together or not at all."""

    class FullDoor(Door):
        full = False

        def write(self, fd: int, data: bytes, offset: int) -> None:
            if self.full:
                raise OSError(28, "full")
            super().write(fd, data, offset)

    door = FullDoor()
    Path(path).write_bytes(struct.pack("<8Q", *range(8)))
    fd = door.open(path, write=True)
    words = PwriteWords(door, fd)
    door.full = True
    words[HINT_NUMBER] = 70
    words[HINT_POSITION] = 80
    with pytest.raises(OSError, match="full"):
        words[PUBLISHED] = 80
    assert [words[index] for index in range(8)] == list(range(8))
    door.full = False
    words[HINT_NUMBER] = 70
    words[HINT_POSITION] = 80
    assert [words[index] for index in (PUBLISHED, HINT_NUMBER, HINT_POSITION)] == [0, 70, 80]
    door.close(fd)
