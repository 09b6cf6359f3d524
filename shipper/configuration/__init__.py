"""Where the shipper's settings come from: flags, a TOML file, environment variables, defaults, in this order.

values      what a value must be, and how it is read
schema      which keys there are, and where
layers      settings of one origin, read and checked
resolving   layers put together to a `ShipperConfig`
effective   what came out, and where each value is from, without secrets
"""

from __future__ import annotations

__all__: list[str] = []
