"""What the tenants of the demo bring along: their input, and the programs they run. Only read, never imported."""
