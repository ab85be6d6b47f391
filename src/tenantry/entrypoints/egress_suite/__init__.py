"""The cases of the escape suite for a sandbox with a network: jail and gateway together, as a job has them."""
