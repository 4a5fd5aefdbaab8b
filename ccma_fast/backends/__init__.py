"""Who computes: the C++ core (``cpu``), Triton kernels (``cuda``), or the NumPy reference (``of_reference``).

``protocol`` says what a backend computes, and ``choose`` picks one for a call.
"""
