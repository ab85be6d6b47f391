"""One module a noun; `register` adds its commands to the application."""
