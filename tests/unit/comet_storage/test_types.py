"""The values that callers hold."""

from __future__ import annotations

import pytest

from comet_storage import Accounting, MessageID
from comet_storage.types import message_ids


@pytest.mark.parametrize("text", ["0-0", "3-1042", "4294967295-18446744073709551615"])
def test_an_id_is_read_back_as_it_was_written(text) -> None:
    """`str` and `parse` are each other's inverse."""
    assert str(MessageID.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        *("", "1", "1-", "-1", "1-2-3", "+1-2", "1--2", " 1-2", "1-2 ", "01-2", "1-02", "1_0-2", "4294967296-0"),
        *("0-18446744073709551616", "\u0661-\u0662", "1-2abc", "1 -2", "1-2\n", None, b"1-2", 12),
    ],
)
def test_any_other_text_is_no_id(text) -> None:
    """Signs, spaces, leading zeros, other digits and larger numbers are refused."""
    with pytest.raises(ValueError, match="invalid message id"):
        MessageID.parse(text)


def test_the_ids_of_an_append_are_a_sequence_made_when_looked_at() -> None:
    """They index, slice, iterate, compare and count like the list that they stand for."""
    ids = message_ids(3, 10, 4)
    whole = [MessageID(3, number) for number in range(10, 14)]
    assert len(ids) == 4
    assert list(ids) == whole
    assert ids == whole
    assert (ids[0], ids[-1], ids[1:3]) == (whole[0], whole[-1], whole[1:3])
    assert MessageID(3, 12) in ids
    assert MessageID(3, 14) not in ids
    assert ids.index(MessageID(3, 11)) == 1
    assert ids != whole[1:]
    assert (ids == 7) is False
    with pytest.raises(IndexError):
        ids[4]
    with pytest.raises(TypeError):
        hash(ids)
    assert "first=10" in repr(ids)


def test_accountings_add_up_class_by_class() -> None:
    """The sum over shards is the sum of each class."""
    one = Accounting(10, 1, 1, 1, 1, 1, 1, 4)
    assert one + one == Accounting(20, 2, 2, 2, 2, 2, 2, 8)
    assert Accounting() + one == one


def test_ids_sort_by_shard_and_number_and_are_equal_by_value() -> None:
    """They serve as keys, and `str` is the original's form."""
    ids = [MessageID(1, 10), MessageID(0, 11), MessageID(1, 9)]
    assert sorted(ids) == [MessageID(0, 11), MessageID(1, 9), MessageID(1, 10)]
    assert {MessageID(1, 2): "x"}[MessageID(shard_id=1, entry_number=2)] == "x"
    assert f"{MessageID(1, 2)}" == str(MessageID(1, 2)) == "1-2"
