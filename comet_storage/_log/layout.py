"""Where streams and shards are under the data directory: ``<namespace>/<version>/shard-0003/``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from comet_storage._os.door import Door
from comet_storage._shard.layout import ShardLayout
from comet_storage.errors import InvalidStreamName
from comet_storage.names import ShardName, parse_shard_directory, parse_stream, shard_directory_name

LOG_FILE = "log.json"
LOG_LOCK = "log.lock"
GROUP_FILE_PREFIX = "group-"
GROUP_FILE_SUFFIX = ".json"
UNPROTECTED_SUFFIX = ".unprotected"


class LogLayout:
    """Paths of one log. The directory itself is the index, so everything is found by listing."""

    def __init__(self, door: Door, root: str) -> None:
        self._door = door
        self.root = root
        self.log_file = f"{root}/{LOG_FILE}"
        self.log_lock = f"{root}/{LOG_LOCK}"

    def stream_directory(self, stream: str) -> str:
        """Directory of a stream ``namespace:version``."""
        namespace, version = parse_stream(stream)
        return f"{self.root}/{namespace}/{version}"

    def shard(self, name: ShardName) -> ShardLayout:
        """Paths inside a shard's directory."""
        directory = f"{self.root}/{name.namespace}/{name.version}/{shard_directory_name(name.shard_id)}"
        return ShardLayout(self._door, directory)

    def group_file(self, stream: str, group: str) -> str:
        """Path of the registration of a consumer group."""
        return f"{self.stream_directory(stream)}/{GROUP_FILE_PREFIX}{group}{GROUP_FILE_SUFFIX}"

    def unprotected_file(self, stream: str, group: str) -> str:
        """Path of the mark of a group whose lag is not protected from retention."""
        return f"{self.stream_directory(stream)}/{GROUP_FILE_PREFIX}{group}{UNPROTECTED_SUFFIX}"

    def groups(self, stream: str) -> list[str]:
        """Names of the groups registered for a stream, sorted."""
        return self._marked(self._names(self.stream_directory(stream)), GROUP_FILE_SUFFIX)

    def protecting_groups(self, stream: str) -> tuple[list[str], bool]:
        """Names of those whose lag is protected from retention, and whether there are others."""
        names = self._names(self.stream_directory(stream))
        groups, unprotected = self._marked(names, GROUP_FILE_SUFFIX), set(self._marked(names, UNPROTECTED_SUFFIX))
        protecting = [group for group in groups if group not in unprotected]
        return protecting, len(protecting) < len(groups)

    @staticmethod
    def _marked(names: list[str], suffix: str) -> list[str]:
        prefix = GROUP_FILE_PREFIX
        return sorted(n[len(prefix) : -len(suffix)] for n in names if n.startswith(prefix) and n.endswith(suffix))

    def shards(self, stream: str) -> list[int]:
        """Numbers of the shards that a stream has, sorted."""
        found = map(parse_shard_directory, self._names(self.stream_directory(stream)))
        return sorted(shard_id for shard_id in found if shard_id is not None)

    def streams(self) -> list[str]:
        """Names of the streams that have a directory, sorted."""
        found = []
        for namespace in self._names(self.root):
            for version in self._names(f"{self.root}/{namespace}"):
                with contextlib.suppress(InvalidStreamName):
                    parse_stream(f"{namespace}:{version}")
                    found.append(f"{namespace}:{version}")
        return sorted(found)

    def all_shards(self) -> Iterator[ShardName]:
        """Every shard of every stream."""
        for stream in self.streams():
            namespace, version = parse_stream(stream)
            for shard_id in self.shards(stream):
                yield ShardName(namespace, version, shard_id)

    def _names(self, directory: str) -> list[str]:
        try:
            return self._door.list_directory(directory)
        except (FileNotFoundError, NotADirectoryError):
            return []
