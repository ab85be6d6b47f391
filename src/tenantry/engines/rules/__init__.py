"""What may run, said in documents: compiled once, asked often, answered with the rule that decided. See README.md.

Invariants: what cannot be read, parsed or judged is denied; blocked beats allowed; no text makes a check slow or raise.
"""

import sys
from types import ModuleType

# `cel` brings its command line along, and with it a terminal's whole toolkit: a tenth of what a process imports here.
sys.modules.setdefault("cel.cli", ModuleType("cel.cli"))
