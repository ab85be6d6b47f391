"""Measures the product beside what it is compared with; see README.md."""
