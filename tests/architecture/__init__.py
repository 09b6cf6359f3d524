"""Tests that read the source: who may import whom, what is public, who may touch files, how long things may be."""
