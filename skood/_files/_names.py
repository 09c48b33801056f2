"""The classes and functions that may be in a file, by names that stay when code moves.

Nothing is looked up by what a file says but in the tables here, which are reviewed: objects of
these classes are made without running code that a file brings. An estimator of the public packages
is known under its public name. What else a fitted estimator holds has a name of its own in
``_STATE``, which must not change as long as files are to be read.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from functools import cache
from typing import Any

from sklearn.base import BaseEstimator

from .._sklearn import PRIVATE_CLASSES
from .._versions import __version__
from ._errors import FileFormatError

_PACKAGES = (
    "calibration",
    "detectors",
    "ensemble",
    "extraction",
    "model_selection",
    "monitoring",
    "preprocessing",
    "shaping",
    "training",
)
"""Packages of skood whose public estimators may be in a file."""

_STATE = {
    "Activations": "skood.activations:Activations",
    "ActivationLevels": "skood.detectors._activation_interval:_Levels",
    "AlarmRate": "skood.monitoring._alarm_rate:AlarmRate",
    "BoundedRows": "skood.detectors._bounded_rows:BoundedRows",
    "CalibrationFitted": "skood.calibration._conformal_fits:Fitted",
    "CalibrationLabels": "skood.calibration._conformal_fits:Labels",
    "CalibrationLeftOut": "skood.calibration._conformal_fits:LeftOut",
    "CalibrationRead": "skood.calibration._conformal_fits:Read",
    "CalibrationRows": "skood._monitor_rows:CalibrationRows",
    "ChosenRuns": "skood._patterns._runs:PatternRun",
    "ClassMoments": "skood.detectors._class_moments:ClassMoments",
    "ClassSums": "skood.detectors._class_sums:ClassSums",
    "Column": "skood.activations:Column",
    "CombinedRanks": "skood.ensemble._calibrations:RankCalibration",
    "CombinedScores": "skood.ensemble._calibrations:Calibration",
    "CombinedTails": "skood.ensemble._calibrations:TailCalibration",
    "CoveredBins": "skood.detectors._nac:_Bins",
    "CoveredStates": "skood.detectors._nac:_Covered",
    "DescribedMetric": "skood.metrics._scorer:_Described",
    "DriftEvidence": "skood.monitoring._evidence:Evidence",
    "DriftReference": "skood.monitoring._reference:Reference",
    "DriftRow": "skood.monitoring._stream:Row",
    "DriftStream": "skood.monitoring._stream:Stream",
    "DriftTestResult": "skood.monitoring._drift_test:DriftTestResult",
    "DriftThreshold": "skood.monitoring._reference:Threshold",
    "EnsembleSummary": "skood.ensemble._member_summaries:EnsembleSummary",
    "EuclideanNeighbors": "skood.detectors._neighbor_search:EuclideanNeighbors",
    "ExampleWarnings": "skood.detectors._stored_samples:NearestExamples",
    "Extremes": "skood.detectors._extremes:Extremes",
    "FeatureSums": "skood.detectors._base_head:FeatureSums",
    "Fingerprint": "skood.networks:Fingerprint",
    "HeldOutThresholds": "skood._monitor_calibration:HeldOutThresholds",
    "IndexedPatternStore": "skood._patterns._index:IndexedPatternStore",
    "InputKind": "skood.extraction._plan:InputKind",
    "Intervals": "skood.detectors._activation_interval:_Intervals",
    "KnownColumns": "skood._known_columns:KnownColumns",
    "LabelsByClass": "skood.detectors._labels_seen:ByClass",
    "LabelsSeen": "skood.detectors._labels_seen:LabelsSeen",
    "LayersLearnt": "skood.detectors._base_layer_scores:LayersLearnt",
    "LazyRows": "skood._rows:LazyRows",
    "LearntMember": "skood.ensemble._member_summaries:LearntMember",
    "LearntNothing": "skood.detectors._base_sample_wise:Nothing",
    "LearntRows": "skood._monitor_rows:LearntRows",
    "Levels": "skood._levels:Levels",
    "LinearHead": "skood.activations:LinearHead",
    "LogSums": "skood.detectors._kl_matching:_LogSums",
    "MappedPart": "skood._patterns._store:MappedPart",
    "MappedPatternStore": "skood._patterns._store:MappedPatternStore",
    "MeanPatterns": "skood.detectors._she:_Patterns",
    "MisclassificationScorer": "skood.metrics._scorer:_MisclassificationScorer",
    "Mode": "skood.extraction._mode:Mode",
    "Moments": "skood.detectors._class_moments:Moments",
    "NAPMember": "skood.ensemble._nap_members:Member",
    "NAPSource": "skood.ensemble._nap_members:Source",
    "NetworkClasses": "skood._classes:NetworkClasses",
    "NetworkErrors": "skood._monitor_calibration:Evidence",
    "NetworkTrace": "skood.networks:Trace",
    "NeuronCounts": "skood.detectors._neuron_count:_Activated",
    "NeuronStates": "skood.detectors._nac:_States",
    "NormsSeen": "skood.detectors._activation_norm:_NormsSeen",
    "OODKFold": "skood.model_selection:OODKFold",
    "OODPredefinedSplit": "skood.model_selection:OODPredefinedSplit",
    "OODScorer": "skood.metrics._scorer:_OODScorer",
    "OODShuffleSplit": "skood.model_selection:OODShuffleSplit",
    "OnlineRanks": "skood.monitoring._ranks:OnlineRanks",
    "OnnxHead": "skood.networks._onnx.heads:Head",
    "OnnxLogits": "skood.networks._onnx.heads:Logits",
    "OnnxTrace": "skood.networks._onnx.adapter:OnnxTrace",
    "PackedBits": "skood.activations:PackedBits",
    "Passes": "skood.extraction._passes:Passes",
    "PatternGroups": "skood.detectors._pattern_groups:PatternGroups",
    "PatternRuns": "skood._patterns._build:PatternRuns",
    "PatternStore": "skood._patterns._store:PatternStore",
    "PatternsInMemory": "skood._patterns._store:Part",
    "Plan": "skood.extraction._plan:Plan",
    "Progression": "skood.detectors._pattern_groups:Progression",
    "RankedErrors": "skood.calibration._risk_tests:RankedErrors",
    "RankedScores": "skood.calibration._ranked_scores:RankedScores",
    "RelativeLogP": "skood.ensemble._any_alarm:_RelativeLogP",
    "RowRuns": "skood._row_runs:RowRuns",
    "SameNetwork": "skood.extraction._same_network:SameNetwork",
    "SeenRows": "skood._seen_rows:SeenRows",
    "Segment": "skood._patterns._shards:Segment",
    "ShardFolder": "skood._patterns._shards:ShardFolder",
    "SpilledRun": "skood._patterns._build:SpilledRun",
    "StoredPatterns": "skood.detectors._hamming:_StoredPatterns",
    "ThresholdSample": "skood._threshold_sample:ThresholdSample",
    "TiedGaussian": "skood.detectors._tied_gaussian:TiedGaussian",
    "TiedMoments": "skood.detectors._tied_moments:TiedMoments",
    "TiedParts": "skood.detectors._tied_moments:TiedParts",
    "TiedRows": "skood.detectors._tied_moments:TiedRows",
    "TorchHead": "skood.networks._torch.heads:Head",
    "TorchIntegers": "skood.networks._torch.inputs:Integers",
    "TorchLocation": "skood.networks._torch.recorded:Location",
    "TorchPositions": "skood.networks._torch.recorded:Positions",
    "TorchTrace": "skood.networks._torch.trace:TorchTrace",
    "TorchWeightView": "skood.networks._torch.products:WeightView",
    "TorchWritten": "skood.networks._torch.fingerprint:Written",
    "TrainingClasses": "skood._classes:TrainingClasses",
    "TrainingPatterns": "skood.detectors._hamming:_TrainingPatterns",
}
"""What fitted estimators hold, and where it is today."""

_FOREIGN = {
    "calibration": "CalibratedClassifierCV",
    "cluster": "AgglomerativeClustering BisectingKMeans Birch DBSCAN KMeans MeanShift "
    "MiniBatchKMeans OPTICS SpectralClustering",
    "compose": "ColumnTransformer TransformedTargetRegressor",
    "covariance": "EllipticEnvelope EmpiricalCovariance GraphicalLasso GraphicalLassoCV LedoitWolf "
    "MinCovDet OAS ShrunkCovariance",
    "decomposition": "FactorAnalysis FastICA IncrementalPCA KernelPCA NMF PCA SparsePCA "
    "TruncatedSVD",
    "discriminant_analysis": "LinearDiscriminantAnalysis QuadraticDiscriminantAnalysis",
    "dummy": "DummyClassifier DummyRegressor",
    "ensemble": "BaggingClassifier BaggingRegressor ExtraTreesClassifier ExtraTreesRegressor "
    "IsolationForest RandomForestClassifier RandomForestRegressor StackingClassifier "
    "VotingClassifier VotingRegressor",
    "feature_selection": "GenericUnivariateSelect SelectFdr SelectFpr SelectFromModel SelectKBest "
    "SelectPercentile VarianceThreshold",
    "frozen": "FrozenEstimator",
    "impute": "KNNImputer MissingIndicator SimpleImputer",
    "kernel_approximation": "AdditiveChi2Sampler Nystroem PolynomialCountSketch RBFSampler "
    "SkewedChi2Sampler",
    "linear_model": "BayesianRidge ElasticNet ElasticNetCV HuberRegressor Lasso LassoCV "
    "LinearRegression LogisticRegression LogisticRegressionCV Ridge RidgeCV RidgeClassifier "
    "RidgeClassifierCV",
    "mixture": "BayesianGaussianMixture GaussianMixture",
    "model_selection": "GridSearchCV GroupKFold GroupShuffleSplit KFold PredefinedSplit "
    "RandomizedSearchCV RepeatedKFold RepeatedStratifiedKFold ShuffleSplit StratifiedGroupKFold "
    "StratifiedKFold StratifiedShuffleSplit TimeSeriesSplit",
    "multiclass": "OneVsOneClassifier OneVsRestClassifier",
    "naive_bayes": "BernoulliNB ComplementNB GaussianNB MultinomialNB",
    "neighbors": "BallTree KDTree KNeighborsClassifier KNeighborsRegressor KernelDensity "
    "LocalOutlierFactor NearestCentroid NearestNeighbors RadiusNeighborsClassifier",
    "neural_network": "MLPClassifier MLPRegressor",
    "pipeline": "FeatureUnion Pipeline",
    "preprocessing": "Binarizer FunctionTransformer KBinsDiscretizer KernelCenterer LabelBinarizer "
    "LabelEncoder MaxAbsScaler MinMaxScaler Normalizer OneHotEncoder OrdinalEncoder "
    "PolynomialFeatures PowerTransformer QuantileTransformer RobustScaler SplineTransformer "
    "StandardScaler",
    "random_projection": "GaussianRandomProjection SparseRandomProjection",
    "svm": "LinearSVC LinearSVR",
    "tree": "DecisionTreeClassifier DecisionTreeRegressor ExtraTreeClassifier ExtraTreeRegressor",
}
"""Estimators of scikit-learn that hold numbers, arrays and each other; those of C code do not."""

_FUNCTIONS = {
    **{
        f"skood.metrics.{name}": f"skood.metrics:{name}"
        for name in (
            "area_under_risk_coverage_score",
            "detection_accuracy_score",
            "fpr_at_tpr_score",
            "ood_average_precision_score",
            "ood_roc_auc_score",
        )
    },
    "skood.metrics.f1": "skood.metrics._scorer:_f1",
    "skood.metrics.balanced_accuracy": "skood.metrics._scorer:_balanced_accuracy",
    "skood.metrics.matthews_corrcoef": "skood.metrics._scorer:_matthews_corrcoef",
    "skood.metrics.risk_coverage_of_marks": "skood.metrics._scorer:risk_coverage_of_marks",
    **{
        f"sklearn.feature_selection.{name}": f"sklearn.feature_selection:{name}"
        for name in ("chi2", "f_classif", "f_regression", "mutual_info_classif", "r_regression")
    },
}

COMPILED = frozenset(
    {"sklearn.neighbors.BallTree", "sklearn.neighbors.KDTree", "sklearn.state.Tree"}
)
"""Classes whose code trusts what they hold, so that they are made in a way of their own."""
_STATE_PREFIX = "skood.state."


@cache
def _places() -> Mapping[str, str]:
    """Where each class is, by its name, but for the public estimators of skood."""
    state = {f"{_STATE_PREFIX}{name}": place for name, place in _STATE.items()}
    foreign = {
        f"sklearn.{module}.{name}": f"sklearn.{module}:{name}"
        for module, names in _FOREIGN.items()
        for name in names.split()
    }
    return {**state, **foreign, **PRIVATE_CLASSES, "fractions.Fraction": "fractions:Fraction"}


def name_of(kind: type) -> str | None:
    """The name of a class in files; None where it may not be in one."""
    return _public_name(kind) or _name_among(_places(), kind)


def class_of(name: Any) -> type:
    """The class of a name.

    Raises
    ------
    FileFormatError
        If no class of this name may be in a file.
    """
    places = _places()
    if isinstance(name, str) and name in places:
        return _import(places[name])
    package, _, plain = str(name).rpartition(".")
    if package in {"skood", *(f"skood.{inner}" for inner in _PACKAGES)}:
        found = _public_estimator(package, plain)
        if found is not None:
            return found
    raise FileFormatError(
        f"The file holds a {name!r}, which is none of the classes that skood {__version__} makes "
        "of a file. Where a newer version has written it, load it by that one."
    )


def name_of_function(function: Any) -> str | None:
    """The name of a function in files; None where it may not be in one."""
    return _name_among(_FUNCTIONS, function)


def function_of(name: Any) -> Any:
    """The function of a name.

    Raises
    ------
    FileFormatError
        If no function of this name may be in a file.
    """
    if isinstance(name, str) and name in _FUNCTIONS:
        return _import(_FUNCTIONS[name])
    raise FileFormatError(f"The file refers to a function {name!r}, which skood does not know.")


def all_names() -> list[str]:
    """The names in the tables."""
    return [*_places(), *_FUNCTIONS]


def _name_among(places: Mapping[str, str], wanted: Any) -> str | None:
    """The name under which a class or function is in a table, by which nothing is imported."""
    plain = getattr(wanted, "__name__", "")
    for name, place in places.items():
        module, _, attribute = place.partition(":")
        if attribute == plain and getattr(sys.modules.get(module), attribute, None) is wanted:
            return name
    return None


def _import(place: str) -> Any:
    module, _, attribute = place.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _public_name(kind: type) -> str | None:
    root, _, rest = kind.__module__.partition(".")
    package = rest.partition(".")[0]
    packages = ["skood", f"skood.{package}"] if package in _PACKAGES else ["skood"]
    for package in packages if root == "skood" else ():
        if _public_estimator(package, kind.__name__) is kind:
            return f"{package}.{kind.__name__}"
    return None


def _public_estimator(package: str, name: str) -> type | None:
    """A public estimator of a package of skood, but for networks, which are no state."""
    module = importlib.import_module(package)
    found = getattr(module, name, None) if name in module.__all__ else None
    if not isinstance(found, type) or not issubclass(found, BaseEstimator):
        return None
    is_network = any(parent.__module__.startswith("skorch.") for parent in found.__mro__)
    return None if is_network else found
