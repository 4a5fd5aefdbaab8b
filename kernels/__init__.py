"""Triton kernels for NVIDIA GPUs, one file an operation.

None stands here yet. What comes imports torch, triton and its neighbours, and nothing else of the package.
"""
