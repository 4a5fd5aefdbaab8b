"""Everything that needs a GPU, in parts, each a process with a time limit of its own::

    bench/gpu.sh OUT                  # install, then all parts, within eight minutes
    bench/gpu.sh OUT --dry-run        # all parts at tiny sizes in Triton's interpreter, then each killed by its limit
    bench/gpu_prepare.sh FOLDER       # wheels and compiled kernels to carry to a machine without a network
    bench/gpu_ab.sh assign . ../other # one kernel of two source trees, in turn

What is measured is appended to one file of JSON lines and flushed, line by line, and the table is made of what is
there: a part that fails or hangs takes only itself along. :mod:`bench.gpu.parts` says what the parts are.
"""
