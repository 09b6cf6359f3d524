"""A shard's state page: one per shard, mapped by writers and readers (layout: ``_format/state_page.py``)."""

from __future__ import annotations

from typing import Protocol

from comet_storage._format.limits import PAGE_BYTES
from comet_storage._format.state_page import (
    ACTIVE_SEGMENT,
    ALLOCATED,
    CEILING,
    DURABLE_OFFSETS,
    GENERATION,
    HINT_NUMBER,
    HINT_POSITION,
    IDENTITY_OFFSETS,
    MAGIC_WORD,
    PAGE_MAGIC,
    PUBLISHED,
    Durable,
    Identity,
    decode_durable,
    decode_identity,
    encode_durable,
    encode_identity,
)
from comet_storage._os import fork
from comet_storage._os.door import Door, MappedFile, may_pass
from comet_storage._os.pwrite import PwriteWords
from comet_storage._segment.active import Reserve


class Words(Protocol):
    """The hot words: one assignment is one store."""

    def __getitem__(self, index: int) -> int: ...
    def __setitem__(self, index: int, value: int) -> None: ...
    def release(self) -> None:
        """Let go of the page; no word can be read or stored any more."""
        ...


class WriterPage:
    """The page as a writer has it."""

    def __init__(self, door: Door, path: str, *, mapped: bool, reserve: Reserve) -> None:
        self._door = door
        self.path = path
        self.fd = door.open_kept(path, write=True, create=True)
        self._map = None
        try:
            status = door.descriptor_status(self.fd)
            self.made = status.size < PAGE_BYTES
            if self.made or status.allocated < PAGE_BYTES:
                reserve(PAGE_BYTES, lambda: door.allocate(self.fd, 0, PAGE_BYTES))
            if mapped:
                identity = self.identity()
                if identity is None or (identity.device, identity.inode) != (status.device, status.inode):
                    # The block of a copy may be shared with the original, and a store to it through a map could find
                    # no room for its own. This finds it, or is an error.
                    door.write(self.fd, self.read(), 0)
                self._map = door.map_file(self.fd, PAGE_BYTES)
        except BaseException:
            door.close(self.fd)
            raise
        self.words: Words = door.map_words(self._map) if self._map is not None else PwriteWords(door, self.fd)
        # By itself: a fork in the middle of a claim finds no writer yet that would do it.
        fork.listen(self)

    def after_fork_in_child(self) -> None:
        """In a forked child: the page is the parent's."""
        self.close()

    def read(self) -> bytes:
        """The whole page as it is now."""
        return self._door.read(self.fd, PAGE_BYTES, 0).ljust(PAGE_BYTES, b"\0")

    def identity(self) -> Identity | None:
        """Who claimed the shard last, or None when neither slot proves itself."""
        found = decode_identity(self.read())
        return found[1] if found else None

    def durable(self) -> Durable | None:
        """What has reached the disk, or None when neither slot proves itself."""
        found = decode_durable(self.read())
        return found[1] if found else None

    def make_identity(self, generation: int) -> Identity:
        """The identity of this page under this boot."""
        status = self._door.descriptor_status(self.fd)
        return Identity(generation, self._door.boot_id(), status.device, status.inode)

    def write_identity(self, identity: Identity) -> None:
        """Store an identity in the older slot."""
        found = decode_identity(self.read())
        sequence = found[0] + 1 if found else 0
        self._door.write(self.fd, encode_identity(sequence, identity), IDENTITY_OFFSETS[sequence % 2])

    def write_durable(self, durable: Durable) -> None:
        """Store what is durable in the older slot. It counts after :meth:`sync`."""
        found = decode_durable(self.read())
        sequence = found[0] + 1 if found else 0
        self._door.write(self.fd, encode_durable(sequence, durable), DURABLE_OFFSETS[sequence % 2])

    def publish(
        self, position: int, number: int, *, generation: int, active: int, allocated: int, ceiling: int
    ) -> None:
        """Store every hot word anew, the magic last: until then readers take a damaged page for what it is."""
        words = self.words
        words[ACTIVE_SEGMENT] = active
        words[ALLOCATED] = allocated
        words[CEILING] = ceiling
        words[PUBLISHED] = position
        words[HINT_NUMBER] = number
        words[HINT_POSITION] = position
        words[GENERATION] = generation
        words[MAGIC_WORD] = PAGE_MAGIC

    def sync(self) -> None:
        """Return when the page is on the disk."""
        self._door.sync_data(self.fd)

    def is_named(self) -> bool:
        """Whether the page is still the file that has its name."""
        try:
            named = self._door.status(self.path)
            opened = self._door.descriptor_status(self.fd)
        except OSError:
            # No such file, or a descriptor that somebody closed.
            return False
        return (named.device, named.inode) == (opened.device, opened.inode)

    def close(self) -> None:
        """Unmap and close."""
        self.words.release()
        if self._map is not None:
            self._map.close()
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            self._door.close(fd)


class ReaderPage:
    """The page as a reader has it: mapped read-only, renewed when the file is another one, believed only when sane."""

    def __init__(self, door: Door, path: str) -> None:
        self._door = door
        self._path = path
        self._key: tuple[int, int] | None = None
        self._map: MappedFile | None = None
        self._words: Words | None = None
        self._boot_checked = False

    def published(self) -> int | None:
        """Log position below which entries can be read, or None when there is no sane page."""
        words = self._current()
        return words[PUBLISHED] if words is not None and words[MAGIC_WORD] == PAGE_MAGIC else None

    def next_number(self) -> int | None:
        """The shard's next entry number where the page has it consistently, else None."""
        words = self._current()
        if words is None or words[MAGIC_WORD] != PAGE_MAGIC:
            return None
        for _ in range(16):
            position = words[PUBLISHED]
            number = words[HINT_NUMBER]
            if words[HINT_POSITION] == position == words[PUBLISHED]:
                return number
        return None

    def number_at(self, published: int) -> int | None:
        """The next entry number as of a published position, where the page still has that."""
        words = self._current()
        if words is None:
            return None
        number = words[HINT_NUMBER]
        return number if words[HINT_POSITION] == published == words[PUBLISHED] else None

    def of_this_boot(self) -> bool:
        """Whether a writer has claimed the shard since the machine started: then what is published is there."""
        if self._boot_checked:
            return True
        if self._current() is not None and self._map is not None:
            found = decode_identity(self._map[:])
            self._boot_checked = found is not None and found[1].boot_id == self._door.boot_id()
        return self._boot_checked

    def refresh(self) -> None:
        """Look whether the file is still the one mapped.

        Raises:
            OSError: that cannot be told, because the process or the disk is in trouble.
        """
        try:
            status = self._door.status(self._path)
        except OSError as error:
            if may_pass(error):
                raise
            self.close()
            return
        key = (status.device, status.inode)
        if status.size < PAGE_BYTES:
            # Cut short: a look at the map would end the process.
            self.close()
            return
        if key == self._key:
            return
        self.close()
        try:
            fd = self._door.open_kept(self._path)
        except OSError as error:
            if may_pass(error):
                raise
            return
        try:
            opened = self._door.descriptor_status(fd)
            if opened.size >= PAGE_BYTES:
                self._map = self._door.map_read_only(fd, PAGE_BYTES)
                self._words = self._door.map_words(self._map)
                self._key = (opened.device, opened.inode)
        finally:
            self._door.close(fd)

    def close(self) -> None:
        """Unmap."""
        if self._words is not None:
            self._words.release()
        if self._map is not None:
            self._map.close()
        self._map = self._words = self._key = None
        self._boot_checked = False

    def _current(self) -> Words | None:
        if self._words is None:
            self.refresh()
        return self._words
