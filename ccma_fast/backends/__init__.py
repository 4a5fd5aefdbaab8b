"""Compute backends: the C++ core (``cpu``), Triton kernels (``cuda``), or the NumPy reference (``of_reference``).

``protocol`` defines their interface, and ``choose`` picks one for a call.
"""
