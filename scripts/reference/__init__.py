"""Writes docs/reference from the code, so that no page can say what the program does not.

`python -m scripts.reference [FOLDER]` from the root of the checkout; `make docs` runs it, and
tests/architecture/test_reference.py compares what it writes with what is committed.
"""
