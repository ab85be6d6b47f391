"""One module a noun: methods that describe requests."""
