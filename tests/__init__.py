"""The project's tests; CONTRIBUTING.md says which kind lives in which folder."""
