"""What the tests make: one module a subject.

Data: `series` (CT as DICOM), `masks` (mask files and their volumes), `cases` (pairs of CT and mask as NIfTI),
`stores`, `runs` and `training` (arrays, models and datasets of the core).
Programs: `commands` runs the command line; `ingests`, `killed_training` and `endless_saver` run what is to be
killed; `gradients` asks the backend in use for a gradient.
"""
