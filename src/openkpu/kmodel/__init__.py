"""The files: what every kmodel version decodes to, and the readers and writers of each version."""
