"""The interface to the operating system: files, memory, streams, processes."""
