"""How identity reaches the world."""
