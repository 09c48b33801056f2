"""Private names of scikit-learn, all in one place: no other module imports any.

A release that moves one of them is mended here alone.
"""

from sklearn.base import _fit_context as check_parameters
from sklearn.metrics._scorer import _BaseScorer as BaseScorer
from sklearn.utils import _safe_indexing as safe_indexing
from sklearn.utils._param_validation import (
    HasMethods,
    Interval,
    InvalidParameterError,
    RealNotInt,
    StrOptions,
    validate_parameter_constraints,
    validate_params,
)
from sklearn.utils.validation import _check_feature_names_in as check_feature_names_in
from sklearn.utils.validation import _num_samples as num_samples

__all__ = [
    "BaseScorer",
    "HasMethods",
    "Interval",
    "InvalidParameterError",
    "RealNotInt",
    "StrOptions",
    "check_feature_names_in",
    "check_parameters",
    "num_samples",
    "safe_indexing",
    "validate_parameter_constraints",
    "validate_params",
]
