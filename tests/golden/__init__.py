"""Files that pin the disk format: made by the engine, compared byte for byte, and read by two readers."""
