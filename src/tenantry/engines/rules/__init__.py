"""What may run, said in documents: compiled once, asked often, answered with the rule that decided. See README.md.

Invariants: what cannot be read, parsed or judged is denied; blocked beats allowed; no text makes a check slow or raise.
"""
