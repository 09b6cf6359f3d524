"""Requests from items: grouped by resource and scope, in order of first sight, and cut where they get too large.

All three signals have the same outer shape: a request of ``Resource*`` messages (field 1), each with its resource (1),
``Scope*`` messages (2) and schema URL (3); and each of those with its scope (1), items (2) and schema URL (3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple, TypeVar

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from comet_otel.encoding import _budget
from comet_otel.encoding._attributes import AttributeFields
from comet_otel.encoding._batch import EncodedBatch
from comet_otel.encoding._wire import Heads, delimited, text_field

FRAMING_BYTES_MAX: Final = 12
"""At least what the tag and the length of a ``Resource*``, ``Scope*`` or item message take."""

_FRAME_BYTES_CACHED_MAX: Final = 64 * 1024

_RESOURCE_HEADS: Final = Heads(b"\x0a")
_ITEM_HEADS: Final = Heads(b"\x12")
_RESOURCE_ATTRIBUTES: Final = AttributeFields(b"\x0a", 5)
_SCOPE_ATTRIBUTES: Final = AttributeFields(b"\x1a", 6)

_PlaceT = TypeVar("_PlaceT", "ResourceItems", "ScopeItems")


class Frame(NamedTuple):
    """What stands around the items of one resource or scope.

    Attributes:
        head: the resource or scope, as a field.
        tail: its schema URL, as a field.
        unencodable_attributes: attributes that had to be left out of it.
    """

    head: bytes
    tail: bytes
    unencodable_attributes: int

    @property
    def size(self) -> int:
        """Bytes that it adds to a request, or a few more."""
        return len(self.head) + len(self.tail) + FRAMING_BYTES_MAX


class _Frames(dict[int, tuple[Any, Frame]]):
    """Frames by the identity of their resource or scope.

    Each is kept together with the object that it was made from, so that no other object can have the same identity.
    """

    def __init__(self, owner_type: type, make: Callable[[Any], Frame]) -> None:
        super().__init__()
        self._owner_type = owner_type
        self._make = make
        _budget.register(self)

    def of(self, owner: Any) -> Frame:
        """Return the frame of a resource or scope; raises whatever makes it unencodable."""
        known = self.get(id(owner))
        return self._new(owner) if known is None else known[1]

    def _new(self, owner: Any) -> Frame:
        frame = self._make(owner)
        # A subclass need not be immutable.
        if type(owner) is self._owner_type and frame.size <= _FRAME_BYTES_CACHED_MAX:
            _budget.charge(4 * (_budget.ENTRY_BYTES + frame.size))
            self[id(owner)] = (owner, frame)
        return frame


def _resource_frame(resource: Any) -> Frame:
    tally = EncodedBatch()
    content = _RESOURCE_ATTRIBUTES.joined(resource.attributes, tally)
    return Frame(delimited(b"\x0a", content), text_field(b"\x1a", resource.schema_url), tally.unencodable_attributes)


def _scope_frame(scope: Any) -> Frame:
    tally = EncodedBatch()
    name = text_field(b"\x0a", scope.name) + text_field(b"\x12", scope.version)
    content = name + _SCOPE_ATTRIBUTES.joined(scope.attributes, tally)
    return Frame(delimited(b"\x0a", content), text_field(b"\x1a", scope.schema_url), tally.unencodable_attributes)


_resource_frames: Final = _Frames(Resource, _resource_frame)
_scope_frames: Final = _Frames(InstrumentationScope, _scope_frame)
_NO_SCOPE: Final = Frame(b"\x0a\x00", b"", 0)


def resource_frame(resource: Any) -> Frame:
    """Return the frame of a resource; raises whatever makes it unencodable."""
    return _resource_frames.of(resource)


def scope_frame(scope: Any) -> Frame:
    """Return the frame of a scope, which is None for the scope that nobody named."""
    return _NO_SCOPE if scope is None else _scope_frames.of(scope)


class ScopeItems:
    """The items of one scope of one resource, as fields of the ``Scope*`` message."""

    __slots__ = ("frame", "items", "owner")

    def __init__(self, scope: Any, frame: Frame) -> None:
        self.owner = scope
        self.frame = frame
        self.items: list[bytes] = []

    def add(self, content: bytes) -> None:
        """Add an item by the content of its message."""
        self.items.append(_ITEM_HEADS[len(content)] + content)


class ResourceItems:
    """The scopes of one resource."""

    __slots__ = ("frame", "owner", "scopes", "scopes_by_value")

    def __init__(self, resource: Any, frame: Frame) -> None:
        self.owner = resource
        self.frame = frame
        self.scopes: list[ScopeItems] = []
        self.scopes_by_value: dict[Any, ScopeItems] = {}

    def message(self) -> bytes:
        """Return the ``Resource*`` message as a field of the request."""
        head, tail, _ = self.frame
        return delimited(b"\x0a", b"".join([head, *[_scope_message(scope) for scope in self.scopes], tail]))


class Tree:
    """The items of one batch under their resources and scopes."""

    def __init__(self, tally: EncodedBatch) -> None:
        """Begin a request; `tally` takes the attributes that resources and scopes lose."""
        self._tally = tally
        self._resources: list[ResourceItems] = []
        self._resources_by_value: dict[Any, ResourceItems] = {}
        self._places: dict[tuple[int, int], tuple[Any, Any, ScopeItems]] = {}

    def place(self, resource: Any, scope: Any) -> ScopeItems:
        """Return where the items of a resource and scope go; raises whatever makes one of them unencodable.

        Those that are equal share one place, even if they are different objects, and the first one is written.
        """
        identity = (id(resource), id(scope))
        known = self._places.get(identity)
        if known is not None:
            return known[2]
        own_resource_frame = resource_frame(resource)
        own_scope_frame = scope_frame(scope)
        resource_items = _equal(resource, self._resources, self._resources_by_value)
        if resource_items is None:
            resource_items = self.new_resource(resource, own_resource_frame)
        scope_items = _equal(scope, resource_items.scopes, resource_items.scopes_by_value)
        if scope_items is None:
            scope_items = self.new_scope(resource_items, scope, own_scope_frame)
        self._places[identity] = (resource, scope, scope_items)  # held, so that no other object gets their identity
        return scope_items

    def new_resource(self, resource: Any, frame: Frame) -> ResourceItems:
        """Begin a resource, whether or not there is an equal one."""
        self._tally.unencodable_attributes += frame.unencodable_attributes
        resource_items = ResourceItems(resource, frame)
        self._resources.append(resource_items)
        return resource_items

    def new_scope(self, resource_items: ResourceItems, scope: Any, frame: Frame) -> ScopeItems:
        """Begin a scope of a resource, whether or not there is an equal one."""
        self._tally.unencodable_attributes += frame.unencodable_attributes
        scope_items = ScopeItems(scope, frame)
        resource_items.scopes.append(scope_items)
        return scope_items

    def payloads(self, part_bytes_max: int) -> list[bytes]:
        """Return the request, in as many parts as the limit asks for; none if there is nothing in it."""
        payload = _request(self._resources)
        if len(payload) <= part_bytes_max:
            return [payload] if payload else []
        return [_request(part) for part in self._parts(part_bytes_max)]

    def _parts(self, part_bytes_max: int) -> Iterator[list[ResourceItems]]:
        """Cut between items, so that each part's request is as long as it may be."""
        part: list[ResourceItems] = []
        size = 0
        for resource in self._resources:
            resource_part: ResourceItems | None = None
            for scope in resource.scopes:
                scope_part: ScopeItems | None = None
                for item in scope.items:
                    frames = 0 if scope_part else scope.frame.size + (0 if resource_part else resource.frame.size)
                    if part and size + frames + len(item) > part_bytes_max:
                        yield part
                        part, size = [], 0
                        resource_part = scope_part = None
                        frames = scope.frame.size + resource.frame.size
                    if resource_part is None:
                        resource_part = ResourceItems(resource.owner, resource.frame)
                        part.append(resource_part)
                    if scope_part is None:
                        scope_part = ScopeItems(scope.owner, scope.frame)
                        resource_part.scopes.append(scope_part)
                    scope_part.items.append(item)
                    size += frames + len(item)
        if part:
            yield part


def one_item(resource: Any, scope: Any, content: bytes, tally: EncodedBatch) -> bytes:
    """Return the request of one item by the content of its message; raises what makes its owners unencodable."""
    resource_head, resource_tail, resource_attributes = resource_frame(resource)
    scope_head, scope_tail, scope_attributes = scope_frame(scope)
    tally.unencodable_attributes += resource_attributes + scope_attributes
    items = b"".join((scope_head, _ITEM_HEADS[len(content)], content, scope_tail))
    scopes = b"".join((resource_head, _ITEM_HEADS[len(items)], items, resource_tail))
    return _RESOURCE_HEADS[len(scopes)] + scopes


def _equal(owner: Any, known: list[_PlaceT], by_value: dict[Any, _PlaceT]) -> _PlaceT | None:
    """Find the place of an equal owner. The usual single owner is never hashed: a resource makes JSON of itself."""
    if not known:
        return None
    for place in known[len(by_value) :]:
        by_value[_comparable(place.owner)] = place
    return by_value.get(_comparable(owner))


def _comparable(owner: Any) -> Any:
    """Return an owner as a key; one that cannot be hashed is like no other, and does not trouble the others."""
    try:
        hash(owner)
    except Exception:  # noqa: BLE001 - its attributes, or a class of its own, may raise anything
        return _Identity(id(owner))
    return owner


class _Identity(NamedTuple):
    number: int


def _scope_message(scope: ScopeItems) -> bytes:
    head, tail, _ = scope.frame
    return delimited(b"\x12", b"".join([head, *scope.items, tail]))


def _request(resources: list[ResourceItems]) -> bytes:
    return b"".join([resource.message() for resource in resources])
