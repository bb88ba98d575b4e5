"""Names that Keras does not document: where one is missing, the error names the Keras that is expected."""

from typing import Any

import keras

from kerasbalance.errors import explain

KNOWN = "keras>=3.15.1,<3.16"
"""The versions whose undocumented names are known; setup.cfg asks for the same."""


def private_name(owner: Any, name: str) -> Any:
    """Return an undocumented attribute of one of Keras' objects.

    Args:
        owner: The object.
        name: The attribute.

    Raises:
        RuntimeError: If this Keras has no such attribute.
    """
    try:
        return getattr(owner, name)
    except AttributeError:
        raise RuntimeError(
            explain(
                f"Keras {keras.__version__}, whose {type(owner).__name__} has no attribute {name}",
                KNOWN,
                f'run pip install "{KNOWN}"',
            )
        ) from None
