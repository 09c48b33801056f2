"""Risk-coverage curves: what they draw, of which samples, and what they refuse."""

import numpy as np
import pytest
from sklearn.ensemble import IsolationForest
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline

from skood import ActivationExtractor, Activations
from skood.calibration import RiskControlledDetector
from skood.datasets import load_digits_ood
from skood.detectors import EnergyDetector, MaxSoftmaxDetector
from skood.inspection import RiskCoverageDisplay
from skood.metrics import area_under_risk_coverage_score, risk_coverage_curve

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

CORRECT = np.array([1, 0, 1, 0, 1])
SCORES = np.array([5.0, 4, 4, 3, 2])


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture
def classified():
    """Activations of a network that is wrong where its logits are close to each other."""
    rng = np.random.default_rng(0)
    logits = 2 * rng.normal(size=(300, 3))
    y = logits.argmax(axis=1)
    margin = np.sort(logits, axis=1)[:, -1] - np.sort(logits, axis=1)[:, -2]
    y = np.where(rng.random(300) < 0.6 * np.exp(-margin), (y + 1) % 3, y)
    return Activations({"fc": logits}, logits=logits), y


def test_lines_are_the_curves():
    display = RiskCoverageDisplay.from_scores(CORRECT, {"a": SCORES, "b": -SCORES})
    for name, scores in {"a": SCORES, "b": -SCORES}.items():
        curve = risk_coverage_curve(CORRECT, scores)
        np.testing.assert_array_equal(display.lines_[name].get_xdata(), curve.coverage)
        np.testing.assert_array_equal(display.lines_[name].get_ydata(), curve.risk)
        area = area_under_risk_coverage_score(CORRECT, scores)
        assert display.lines_[name].get_label() == f"{name} (AURC {area:.3f})"
        assert display.area[name] == area
    assert display.ax_.get_xlabel().startswith("coverage")
    assert display.ax_.get_ylabel().startswith("risk")


def test_the_best_line_is_that_of_perfect_scores():
    display = RiskCoverageDisplay.from_scores(CORRECT, SCORES)
    best = risk_coverage_curve(CORRECT, CORRECT + 0.1 * SCORES)
    x, y = display.best_line_.get_data()
    np.testing.assert_allclose(np.interp(best.coverage, x, y), best.risk, atol=1e-3)


def test_curves_of_several_error_rates_have_no_common_best_line():
    display = RiskCoverageDisplay(
        coverage={"a": np.array([1.0]), "b": np.array([1.0])},
        risk={"a": np.array([0.1]), "b": np.array([0.2])},
        area={"a": 0.1, "b": 0.2},
    ).plot()
    assert display.best_line_ is None
    # One point is no line, and has to be seen.
    assert display.lines_["a"].get_marker() == "o"


def test_a_risk_is_marked_and_in_view():
    display = RiskCoverageDisplay.from_scores(CORRECT, SCORES, mark_risk=0.9)
    np.testing.assert_array_equal(display.risk_line_.get_ydata(), [0.9, 0.9])
    assert display.risk_line_.get_label() == "error rate 0.9"
    assert display.ax_.get_ylim()[1] > 0.9
    assert display.plot().risk_line_ is None


def test_curves_are_in_view_but_for_a_few_samples():
    rng = np.random.default_rng(0)
    scores = rng.permutation(1000)
    is_correct = rng.random(1000) < 0.9
    is_correct[scores == 999] = False  # the first one: risk 1
    display = RiskCoverageDisplay.from_scores(is_correct, scores)
    low, high = display.ax_.get_ylim()
    assert low < 0 < display.risk["detector"][50:].max() < high < 1
    all_right = RiskCoverageDisplay.from_scores([1, 1], [1, 2])
    assert all_right.ax_.get_ylim()[1] > 0


def test_given_axes_and_keywords_are_used():
    figure, (left, right) = plt.subplots(1, 2)
    display = RiskCoverageDisplay.from_scores(CORRECT, SCORES, ax=right, color="#112233")
    assert display.ax_ is right
    assert display.figure_ is figure
    assert not left.has_data()
    assert display.lines_["detector"].get_color() == "#112233"


def test_detectors_of_any_library_are_drawn(classified):
    A, y = classified
    forest = IsolationForest(random_state=0).fit(np.asarray(A))
    risk = RiskControlledDetector(MaxSoftmaxDetector().fit(A), alpha=0.9).fit(A, y)
    estimators = {"softmax": MaxSoftmaxDetector().fit(A), "forest": forest, "controlled": risk}
    display = RiskCoverageDisplay.from_estimator(estimators, A, y)
    is_correct = A.predictions == y
    expected = risk_coverage_curve(is_correct, estimators["softmax"].score_samples(A)).risk
    for name in ("softmax", "controlled"):
        np.testing.assert_allclose(display.risk[name], expected)
    expected = risk_coverage_curve(is_correct, forest.decision_function(np.asarray(A))).risk
    np.testing.assert_allclose(display.risk["forest"], expected)
    one = RiskCoverageDisplay.from_estimator(EnergyDetector().fit(A), A, y)
    assert list(one.lines_) == ["EnergyDetector"]


def test_rows_marked_ood_are_left_out(classified):
    A, y = classified
    marked = np.where(np.arange(len(A)) % 3 == 0, -1, y)
    detector = MaxSoftmaxDetector().fit(A)
    rows = np.flatnonzero(marked != -1)
    display = RiskCoverageDisplay.from_estimator({"a": detector}, A, marked)
    expected = RiskCoverageDisplay.from_estimator({"a": detector}, A[rows], y[rows])
    np.testing.assert_array_equal(display.risk["a"], expected.risk["a"])


def test_pipelines_read_raw_inputs():
    X, y = load_digits_ood(return_X_y=True)
    X = X.reshape(len(X), -1)
    X, y = X[y != -1], y[y != -1]
    net = MLPClassifier((16,), solver="lbfgs", random_state=0, max_iter=500).fit(X[:400], y[:400])
    pipeline = make_pipeline(ActivationExtractor(net), MaxSoftmaxDetector()).fit(X[:400])
    display = RiskCoverageDisplay.from_estimator(pipeline, X[400:], y[400:])
    error_rate = np.mean(net.predict(X[400:]) != y[400:])
    assert display.risk["MaxSoftmaxDetector"][-1] == pytest.approx(error_rate)


def test_what_cannot_be_drawn_is_refused(classified):
    A, y = classified
    detector = MaxSoftmaxDetector().fit(A)
    draw = RiskCoverageDisplay.from_estimator
    with pytest.raises(ValueError, match="RiskCoverageDisplay needs the network's predictions"):
        draw(detector, np.asarray(A), y)
    with pytest.raises(ValueError, match=r"among the classes of the network.*got \[7\]"):
        draw(detector, A, np.full(len(A), 7))
    with pytest.raises(ValueError, match="300 samples, but y has 299"):
        draw(detector, A, y[1:])
    with pytest.raises(ValueError, match="NaN"):
        RiskCoverageDisplay.from_scores(CORRECT, [1, 2, np.nan, 3, 4])
    with pytest.raises(ValueError, match="one value for each of the 4 scores"):
        RiskCoverageDisplay.from_scores(CORRECT, SCORES[1:])
