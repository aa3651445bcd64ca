"""All pairs of vectors of one namespace whose cosine reaches a threshold, exactly.

`choice` says which way is cheapest, `join` finds the pairs; `sketch`, `filters`, `exact` and
`twins` are its parts. Pure numpy: no threads, no clock. Run it in a process with one BLAS thread.
"""
