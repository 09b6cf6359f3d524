"""Mutated requests against a receiver in a process of its own: ``make fuzz``; the test-suite runs a short form."""
