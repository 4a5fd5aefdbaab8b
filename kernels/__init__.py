"""Triton kernels for NVIDIA GPUs, one file an operation.

They import torch, triton and their neighbours, and nothing else of the package.
"""
