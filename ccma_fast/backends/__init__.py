"""Who computes: the C++ core, Triton kernels, or the reference. :mod:`ccma_fast.backends.protocol` says what."""
