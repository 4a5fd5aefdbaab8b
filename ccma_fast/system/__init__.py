"""What the package asks of the operating system: files, memory, streams, processes."""
