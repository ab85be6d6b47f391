"""Generic mechanisms without tenancy words; each could be a library of its own."""
