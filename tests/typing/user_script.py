"""A user's script, which runs, and in which a strict type checker knows every result.

``assert_type`` takes a type checker's word: an ``Any`` in place of a type would not do.
"""

from contextlib import suppress
from typing import Any, assert_type

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline

from skood import (
    ActivationExtractor,
    Activations,
    HammingNAPDetector,
    Monitor,
    PercentileBinarizer,
    PoolingReducer,
    make_monitor,
)
from skood.activations import LinearHead
from skood.calibration import (
    ConformalDetector,
    ReliabilityDisplay,
    TemperatureScaler,
    calibration_bins,
    expected_calibration_error,
    prediction_confidence,
)
from skood.datasets import load_digits_ood, make_noise
from skood.detectors import EnergyDetector, KNNDetector, MahalanobisDetector, MaxSoftmaxDetector
from skood.ensemble import AnyAlarmDetector, LayerEnsembleDetector
from skood.inspection import (
    Explanation,
    HammingDistanceDisplay,
    OODRocCurveDisplay,
    PatternDisplay,
    explain,
)
from skood.metrics import fpr_at_tpr_score, make_ood_scorer, ood_roc_auc_score
from skood.model_selection import DetectorSearchCV, OODKFold
from skood.preprocessing import LayerSelector
from skood.shaping import LINe, ReAct, shared_top_neurons
from skood.training import DecoyClassClassifier, OverconfidencePenalty

Scores = NDArray[np.float64]

# Fit

images, labels = load_digits_ood(held_out=(1, 5), return_X_y=True)
assert_type(images, NDArray[np.float32])
assert_type(labels, NDArray[np.int64])
noise = make_noise("uniform", (20, 8, 8), random_state=0)
assert_type(noise, NDArray[np.float32])

torch.manual_seed(0)
network = torch.nn.Sequential(
    torch.nn.Conv2d(1, 8, 3),
    torch.nn.ReLU(),
    torch.nn.Flatten(),
    torch.nn.Linear(288, 16),
    torch.nn.ReLU(),
    torch.nn.Linear(16, 8),
)
criterion = OverconfidencePenalty()
inputs, targets = torch.tensor(images[labels != -1]), torch.tensor(labels[labels != -1])
assert_type(criterion.penalty(network(inputs), targets), torch.Tensor)

extractor = ActivationExtractor(network, reducer=PoolingReducer(pooling="max"))
assert_type(extractor.fit(images), ActivationExtractor)
A = extractor.transform(images)
assert_type(A, Activations)
assert_type(extractor.fit_transform(images), Activations)
assert_type(A[:10], Activations)
assert_type(A.layer_names, tuple[str, ...])
assert_type(A.head, LinearHead | None)
# As the docstrings write it, though predictions may be None to a type checker.
first_class: Activations = A[A.predictions == 1]
assert_type(len(first_class), int)
known: Activations = A[labels != -1]
assert_type(A[["1", "4"]][[0, 2]], Activations)
assert_type(Activations.concatenate([A[:3], A.assign(labels=labels)[3:]]), Activations)
assert A.predictions is not None

binarizer = PercentileBinarizer(percentile=70)
assert_type(binarizer.fit(A), PercentileBinarizer)
bits = binarizer.transform(A)
assert_type(bits, Activations)
assert_type(binarizer.fit_transform(A), Activations)

# Score

detector = HammingNAPDetector(false_alarm_rate=0.05)
assert_type(detector.fit(bits, labels), HammingNAPDetector)
assert_type(detector.score_samples(bits), Scores)
assert_type(detector.decision_function(bits), Scores)
assert_type(detector.predict(bits), NDArray[np.int64])
assert_type(detector.score(bits, labels), float)
assert_type(detector.offset_, float)
assert_type(detector.training_rows_, NDArray[np.intp])
assert_type(KNNDetector(n_neighbors=5).fit(A, labels).score_samples(A), Scores)
assert_type(MahalanobisDetector().fit(A, labels).score_samples(A), Scores)
assert_type(EnergyDetector().fit(images.reshape(len(images), -1)), EnergyDetector)

ensemble = LayerEnsembleDetector(HammingNAPDetector(), combine="mean").fit(bits, labels)
assert_type(ensemble, LayerEnsembleDetector)
assert_type(ensemble.score_samples(bits), Scores)

monitor = make_monitor(network, target="both", search=False).fit(images[labels != -1])
assert_type(monitor, Monitor)
assert_type(monitor.score_samples(images), Scores)
assert_type(monitor.decision_function(images), Scores)
assert_type(monitor.offset_, float)
assert_type(monitor.calibrate(images), Monitor)
assert_type(monitor.p_values(images), Scores)
assert_type(monitor.select(images), NDArray[np.bool_])
assert_type(monitor.predict(images), NDArray[np.int64])
assert_type(monitor.score(images, labels), float)
assert_type(monitor.layers_, list[str])
assert_type(monitor.offsets_, dict[Any, Any])
assert_type(monitor.predict_each(images), dict[str, NDArray[np.int64]])
assert_type(monitor.score_each(images), dict[str, Scores])
assert_type(monitor.memory_usage(), int)
assert_type(monitor.explain(images[:1], X_train=images), Explanation)

alarms = AnyAlarmDetector([("unlike", KNNDetector()), ("unsure", MaxSoftmaxDetector())])
assert_type(alarms.fit(A, labels), AnyAlarmDetector)
assert_type(alarms.offsets_, dict[str, float])
assert_type(alarms.predict_each(A), dict[str, NDArray[np.int64]])
choice = DetectorSearchCV([("energy", EnergyDetector()), ("knn", KNNDetector())]).fit(A, labels)
assert_type(choice, DetectorSearchCV)
assert_type(choice.best_name_, str)
assert_type(choice.score_samples(A), Scores)

react = ReAct(percentile=90).fit(A, labels)
assert_type(react, ReAct)
assert_type(react.transform(A), Activations)
assert_type(react.fit_transform(A, labels), Activations)
table = [[1.0, 4.0], [0.0, 3.0]]
assert_type(ReAct().fit(table).transform(table), NDArray[np.floating])
line = LINe(group_by="label").fit(A, labels)
assert_type(line.weight_mask(3), NDArray[np.bool_])
assert_type(shared_top_neurons(line), Scores)

with suppress(TypeError):
    TemperatureScaler(temperature=2)  # type: ignore[call-arg]
scaler = TemperatureScaler().fit(A, labels)
assert_type(scaler.temperature_, float)
assert_type(scaler.transform(A), Activations)
assert_type(scaler.predict_proba(A), Scores)
conformal = ConformalDetector(KNNDetector(), cv=0.5, false_alarm_rate=0.5).fit(A, labels)
assert_type(conformal, ConformalDetector)
assert_type(conformal.p_values(A), Scores)
assert_type(conformal.predict(A), NDArray[np.int64])
assert_type(conformal.select(A, fdr=0.2, method="by"), NDArray[np.bool_])
assert_type(conformal.offset_, float)
correct, confidence = A.predictions == labels, prediction_confidence(A)
assert_type(confidence, Scores)
assert_type(expected_calibration_error(correct, confidence), float)
assert_type(calibration_bins(correct, confidence).counts, NDArray[np.intp])

scores = detector.score_samples(bits)
assert_type(ood_roc_auc_score(labels, scores), float)
assert_type(fpr_at_tpr_score(labels, scores, positive="id"), float)
assert_type(make_ood_scorer("f1")(detector, bits, labels), float)
for train, test in OODKFold(n_splits=3).split(A, labels):
    assert_type(train, NDArray[np.intp])
    assert_type(test, NDArray[np.intp])

search = GridSearchCV(
    make_pipeline(LayerSelector(), PercentileBinarizer(), HammingNAPDetector()),
    {"layerselector__layers": [[layer] for layer in A.layer_names]},
    scoring=make_ood_scorer("roc_auc"),
    cv=OODKFold(2),
).fit(A[:100], labels[:100])
searched = LayerEnsembleDetector.from_search(search, n_layers=2)
assert_type(searched.fit(A, labels), LayerEnsembleDetector)

# Explain and plot

explanation = explain(detector, bits[:3])
assert_type(explanation, Explanation)
assert_type(explanation.scores, NDArray[np.floating])
assert_type(explanation.top_layers(0), list[tuple[str, float]])
assert_type(str(explanation), str)

roc = OODRocCurveDisplay.from_estimator(detector, bits, labels)
assert_type(roc, OODRocCurveDisplay)
assert_type(roc.figure_, Figure)
assert_type(roc.ax_, Axes)
assert_type(HammingDistanceDisplay.from_estimator(detector, bits, labels).ax_, Axes)
patterns = PatternDisplay.from_activations(bits, A.predictions)
assert patterns.groups.tolist() == sorted(patterns.groups.tolist())
assert_type(patterns.neurons, dict[str, NDArray[Any]])
reliability = ReliabilityDisplay.from_predictions(correct, confidence)
assert_type(reliability.plot(), ReliabilityDisplay)

# A classifier with a reject option

rows = images.reshape(len(images), -1)
classifier = DecoyClassClassifier(
    MLPClassifier((16,), max_iter=50, random_state=0),
    outliers="noise",
    reject_label=-1,
    random_state=0,
)
assert_type(classifier.fit(rows, labels), DecoyClassClassifier)
assert_type(classifier.predict_proba(rows), Scores)
assert_type(classifier.is_ood(rows), NDArray[np.bool_])
assert_type(classifier.score(rows, labels), float)
assert_type(classifier.make_outliers(rows, labels), NDArray[np.floating])
