"""The one door to the operating system: files, maps, locks, clocks, fork and failpoints."""
