"""Why estimators have no form in tensors."""

from ..extraction import ActivationExtractor
from ._registry import has_no_form

has_no_form(
    ActivationExtractor,
    "its form is made of the network that it runs: export the monitor that it belongs to",
)
