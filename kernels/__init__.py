"""Triton kernels for NVIDIA GPUs, one file an operation.

They import torch, triton and their neighbours, and nothing else of the package.

A kernel's parameters stand one group a line, with shapes and dtypes: what is read, sizes, what is written ("out"), and
what the compiler is told. Rows are `stride` apart. Strides and numbers of columns or classes are passed divided by a
unit (ALIGN, WIDTH), so that the compiler knows what they are multiples of.
"""
