"""Alembic's two lines of revisions: `cell` (every region's database) and `directory`.

A revision is frozen text: it imports nothing of the product but `fencing`, which only ever grows.
"""
