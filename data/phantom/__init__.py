"""Synthetic abdominal CT, for trying things out and for tests: anatomy, scanner, genuine DICOM files."""

from kerasbalance.data.phantom.case import LABELS, PhantomCase, make_case
from kerasbalance.data.phantom.cohort import PlannedCase, plan_cases, write_phantom
from kerasbalance.data.phantom.patient import HARD_KINDS

__all__ = ["HARD_KINDS", "LABELS", "PhantomCase", "PlannedCase", "make_case", "plan_cases", "write_phantom"]
