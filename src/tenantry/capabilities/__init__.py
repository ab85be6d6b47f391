"""What the product does, one package a noun; see ARCHITECTURE.md for their order."""
