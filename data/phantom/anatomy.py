"""Putting the patient together: the space, the organs that push each other aside, the order of painting."""

from dataclasses import dataclass

import numpy as np

from kerasbalance.data.phantom import liver, organs
from kerasbalance.data.phantom.body import (
    Body,
    make_body,
    paint_back,
    paint_chest,
    paint_ribs,
    paint_spine,
    paint_wall,
)
from kerasbalance.data.phantom.bowel import paint_bowel
from kerasbalance.data.phantom.patient import Patient
from kerasbalance.data.phantom.scene import AIR_HU, Array, Pose, Scene, axis_of, both, smooth_field
from kerasbalance.data.phantom.vessels import paint_vessels

WARP_MM = (5.0, 4.0, 5.0)
"""How far space is bent along x, y and z (standard deviation), so that no patient is symmetric."""


def lay_out(patient: Patient, size: int, rng: np.random.Generator) -> tuple[Scene, Body]:
    """Lay out the voxels, bend the space and place the body in it; nothing is painted.

    Args:
        patient: Build, pose and scan range.
        size: Rows and columns.
        rng: Draws the random fields.
    """
    pixel_mm = patient.field_of_view / size
    flat = axis_of(patient.field_of_view, size)
    heights = (patient.bottom + (np.arange(patient.slices) + 0.5) * patient.slice_step).astype(np.float32)
    half = patient.field_of_view / 2
    bounds = ((patient.bottom, patient.top + patient.slice_step), (-half, half), (-half, half))

    def field(knot_mm: float) -> Array:
        return smooth_field(rng, (heights, flat, flat), bounds, knot_mm)

    pose = Pose(patient.roll, patient.offset)
    x, y = pose.to_patient(flat[None, :], flat[:, None])
    x = x.astype(np.float32)[None] + WARP_MM[0] * field(110)
    y = y.astype(np.float32)[None] + WARP_MM[1] * field(110)
    z = heights[:, None, None] + WARP_MM[2] * field(110)
    hu, labels = np.full(x.shape, AIR_HU, np.float32), np.zeros(x.shape, np.uint8)
    scene = Scene(heights, flat, flat, x, y, z, hu, labels, pixel_mm, pose)
    plane = smooth_field(rng, (flat, flat), bounds[1:], 60)
    return scene, make_body(scene, patient, field(65), field(24), plane)


@dataclass(frozen=True, eq=False)
class Organs:
    """Signed distances of the organs that keep out of each other's way."""

    liver: Array
    gallbladder: Array | None
    kidneys: tuple[tuple[organs.Kidney, Array], ...]
    spleen: Array
    stomach: Array

    def free(self, scene: Scene, patient: Patient, body: Body) -> Array:
        """Signed distance, positive where bowel may lie."""
        spine = patient.spine_radius + 18 - np.hypot(scene.x, scene.y - patient.spine_y)
        solid = [self.liver, self.spleen, self.stomach, spine, *(shape for _, shape in self.kidneys)]
        if self.gallbladder is not None:
            solid.append(self.gallbladder)
        return both(-np.maximum.reduce(solid) - 1.5, body.below_diaphragm - 3)


def shape_organs(scene: Scene, patient: Patient, body: Body, rng: np.random.Generator) -> Organs:
    """Shape the solid organs: kidneys and gall bladder dent the liver, liver and spleen dent the stomach."""
    build, kidneys = liver.draw_build(rng, patient), organs.draw_kidneys(rng, patient)
    left, right = (kidney.shape(scene, body) for kidney in kidneys)
    hepatic = liver.liver_shape(scene, patient, body, build)
    hepatic = both(hepatic, -np.maximum(left, right) - 2.5 - 6 * patient.visceral, 3)
    gallbladder = liver.gallbladder_shape(scene, patient, build)
    if gallbladder is not None:
        hepatic = both(hepatic, -gallbladder - 0.5, 2)
    spleen = organs.spleen_shape(scene, patient, body, rng)
    spleen = both(spleen, -np.maximum(hepatic, left) - 2)
    touch = 0.0 if "lowcontrast" in patient.kinds else 1.5 + 3 * patient.visceral
    stomach = both(organs.stomach_shape(scene, patient, body, rng), -hepatic - touch)
    stomach = both(stomach, -spleen - 2)
    return Organs(hepatic, gallbladder, ((kidneys[0], left), (kidneys[1], right)), spleen, stomach)


def paint_patient(scene: Scene, patient: Patient, body: Body, rng: np.random.Generator) -> None:
    """Paint everything, from the wall inwards; what comes later covers what came before."""
    shapes = shape_organs(scene, patient, body, rng)
    free = shapes.free(scene, patient, body)
    paint_wall(scene, patient, body)
    paint_chest(scene, patient, body)
    paint_back(scene, patient, body)
    paint_ribs(scene, patient, body)
    paint_bowel(scene, patient, body, free, rng)
    paint_vessels(scene, patient, rng)
    organs.paint_pancreas(scene, patient, body, free)
    paint_spine(scene, patient, body)
    organs.paint_stomach(scene, patient, body, shapes.stomach, rng)
    organs.paint_spleen(scene, patient, body, shapes.spleen)
    for kidney, shape in shapes.kidneys:
        organs.paint_kidney(scene, patient, body, kidney, shape)
    liver.paint_liver(scene, patient, body, shapes.liver, rng)
    if shapes.gallbladder is not None:
        liver.paint_gallbladder(scene, patient, shapes.gallbladder, rng)
