"""The C++ core as a backend."""
