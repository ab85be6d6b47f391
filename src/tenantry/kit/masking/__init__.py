"""Masks secrets in text that is about to be written: known values, and whatever has the form of a key.

A net, not a fence: a program that says its secret otherwise (reversed, split by line breaks) is not caught. Patterns
are bounded, so nothing backtracks far and little is held back.
"""
