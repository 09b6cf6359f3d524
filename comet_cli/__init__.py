"""The command ``comet``: looks after the log of one node.

It is a program, not a library: ``comet status``, ``ls``, ``tail``, ``export``, ``verify``, ``repair``, ``replay`` and
``deadletter``. Applications and the shipper may run meanwhile.
"""

from __future__ import annotations

__all__: list[str] = []
