"""A run of the benchmark: the methods explain clips, and their maps are scored in every cell.

A cell is a method, a region grid and a fill. `subject` prepares the classifier and its bases, `stage` the clips of
the run. `runner` plans the jobs: `maps` explains, with `price` to count the cost, and `scoring` scores, as `rows`.
`workers` computes the jobs side by side, in processes of this machine or in `clusters` of Dask and Ray. `results` is
the folder of the run. `allocator` sets how the C library handles freed memory.
"""
