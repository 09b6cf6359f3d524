"""Programs that know nothing of Comet, for the tests of the receiver to start."""
