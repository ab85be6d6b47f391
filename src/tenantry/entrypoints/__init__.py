"""The processes one can start; they compose, nothing else lives here."""
