"""Measurements of what the design promises: ratios within one run, medians of several interleaved rounds."""
