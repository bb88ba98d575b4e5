"""Networks from int16 Hounsfield units to float32 probabilities, the CT window inside.

Importing this package registers every class with Keras that a saved model may hold (the window, loss, metric
and schedule), so that `keras.saving.load_model` needs no `custom_objects`.
"""

import kerasbalance.losses  # noqa: F401  # its import registers the loss, metric and schedule
from kerasbalance.models.average import Mirror, average
from kerasbalance.models.fcn import fcn_vgg16
from kerasbalance.models.unet import unet
from kerasbalance.models.window import HUWindow

__all__ = ["HUWindow", "Mirror", "average", "fcn_vgg16", "unet"]
