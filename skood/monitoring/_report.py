"""The report of a monitor: what it was measured to do, and what it cannot do."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any, Self

from numpy.typing import ArrayLike

from .._optional import import_optional
from ._report_build import measure
from ._report_fields import ReportFields
from ._report_figures import figures_of
from ._report_markup import Section, escape_markdown, html_fragment, html_page, markdown_page
from ._report_sections import sections_of, title_of
from ._report_shares import percent

_NO_FIGURES = (
    "The report has no figures, since matplotlib is not installed: 'pip install matplotlib', or "
    "install skood with its extra 'plot'."
)


class MonitorReport(ReportFields):
    """What a monitor does on test rows, as tables, as Markdown and as HTML.

    Create it by :meth:`skood.Monitor.report`. A notebook shows it, ``save`` writes it to a folder.

    Every share comes with the number of rows that it was counted on and its exact interval
    (Clopper-Pearson [1]_, 95 % confidence): the entries "n_rows", "n_rejected", "rejected",
    "low" and "high" of a dict. Lists of dicts are tables, which ``pandas.DataFrame(table)`` takes.

    Parameters
    ----------
    network : str
        What the network is called.
    target : {"ood", "misclassified", "both"}
        What the monitor looks for.
    layers : list of str
        Layers that are extracted.
    detectors : list of dict
        Which detector watches which layers: "depth", "detector", "kind", "layers", "weight" and
        "left_out". Members of an ensemble follow it, one deeper.
    data : dict
        "n_fitted", the number of rows that ``fit`` was given; "n_tested"; "classes" of the network;
        its "accuracy" on the test rows, or "why_no_accuracy", None where something is not known;
        "share_fitted" and "share_calibrating", the shares of the test rows that are among those
        that ``fit`` and ``calibrate`` got, as far as they are known again.
    threshold : dict
        Where the threshold comes from: "origin", one of "estimate", "held-out", "calibrated",
        "risk-controlled" and "own"; "offsets", and the "false_alarm_rate" that was asked for, by
        the name of the detector or class, which is empty where there is one for all; "n_rows" that
        set it, of several detectors the smallest number, and "n_rows_each" by name; "guarantee",
        "confidence" and "group_by"; "n_folds", of which each has rows that its detector has not
        learnt from; and the "alpha" of a risk that is controlled. Rows that the monitor's own
        ``fit`` held out are "held-out", those of ``calibrate`` "calibrated".
    false_alarms : dict
        The share of the rows that should pass and are rejected, beside the rate that was "asked"
        for. Where the monitor looks for errors of the network, and labels tell them, only rows that
        are classified correctly should pass.
    calibration_curve : list of dict or None
        The same by the rate "asked" for, at the thresholds that it would have given. None where the
        detector does not tell them.
    false_alarms_by_prediction : list of dict or None
        The same by the "class" that the network predicts.
    false_alarms_by_label : list of dict or None
        The same by label, where there are labels.
    errors : dict or None
        The share of the misclassified test rows that is rejected; the "accuracy",
        "accuracy_of_accepted" and "coverage", each with its interval, "accuracy_interval" and so
        on, a pair; "n_accepted", "area_under_risk_coverage",
        "excess_area_under_risk_coverage", and the "auroc" of errors against other rows. None where
        labels do not tell errors.
    risk_coverage : dict or None
        The error rates among accepted test rows, "risk", and the shares of the rows that are
        accepted, "coverage", at all thresholds (:func:`~skood.metrics.risk_coverage_curve`).
    out_sets : list of dict
        For each set by its "name" the share that is rejected, the area under the ROC curve "auroc"
        against the test rows that should pass, and "fpr95", the share of these that is rejected
        where 95 % of the set is.
    rejected_by_detector : list of dict
        Where several detectors have thresholds of their own, what each "detector" rejects of the
        set "name".
    scores : list of tuple (str, ndarray)
        The names and scores of the test rows that should pass, of those that the monitor looks for,
        and of each other set.
    limit : float or None
        Rows of a lower score are rejected; None where there are several thresholds.
    limits : list of str
        What the monitor cannot do.
    versions : dict of str to str
        Versions of Python and of libraries.
    date : str
        The day on which the report was made, as in "2030-01-31".

    See Also
    --------
    skood.Monitor.report : Makes a report.
    skood.inspection.explain : Explains the score of single inputs.

    References
    ----------
    .. [1] Clopper and Pearson, "The use of confidence or fiducial limits illustrated in the case
       of the binomial", Biometrika 26, 1934, doi:10.1093/biomet/26.4.404

    Examples
    --------
    >>> from sklearn.neural_network import MLPClassifier
    >>> from skood import make_monitor
    >>> from skood.datasets import load_digits_ood, make_noise
    >>> X, y = load_digits_ood(return_X_y=True)
    >>> X, inside = X.reshape(len(X), -1), y != -1
    >>> train, test = X[inside][:1000], X[inside][1000:]
    >>> net = MLPClassifier((64, 32), random_state=0).fit(train, y[inside][:1000])
    >>> noise = make_noise("uniform", (50, 64), random_state=0)
    >>> report = make_monitor(net).fit(train).report(test, {"noise": noise, "digits": X[~inside]})
    >>> report
    MonitorReport(network='MLPClassifier', n_tested=433, false_alarms='...', out_sets=2)
    >>> [entry["name"] for entry in report.out_sets]
    ['noise', 'digits']
    >>> print(report.to_markdown().splitlines()[0])
    # Report of a monitor of MLPClassifier
    """

    @classmethod
    def from_monitor(
        cls,
        monitor: Any,
        X_test: Any,
        out_sets: Mapping[str, Any] | None = None,
        *,
        y_test: ArrayLike | None = None,
    ) -> Self:
        """Measure what a fitted monitor does; what :meth:`skood.Monitor.report` calls.

        Parameters
        ----------
        monitor : Monitor
            A fitted monitor.
        X_test : array-like, Tensor, Dataset, DataLoader, dict or Activations
            In-distribution inputs that neither the network nor the monitor has learnt from.
        out_sets : dict of str to inputs, default=None
            Sets of out-of-distribution inputs by name.
        y_test : array-like of shape (n_samples,), default=None
            Class labels of ``X_test``; -1 marks rows that are out-of-distribution.

        Returns
        -------
        report : MonitorReport
            The report.

        Raises
        ------
        TypeError
            If it is no monitor, but what calibrates one.
        """
        return cls(**measure(monitor, X_test, out_sets, y_test))

    @cached_property
    def _pngs(self) -> dict[str, bytes]:
        return {name: draw() for name, draw in figures_of(self).items()}

    def _sections(self, sources: Mapping[str, str]) -> list[Section]:
        return sections_of(self, sources, "" if figures_of(self) else _NO_FIGURES)

    def to_markdown(self, *, figures: str | None = "figures") -> str:
        """Write the report as Markdown, in the dialect of GitHub.

        Parameters
        ----------
        figures : str, default="figures"
            The folder of the figures, relative to the text, as :meth:`save` writes it; None for a
            text without figures.

        Returns
        -------
        text : str
            The report.
        """
        return markdown_page(title_of(self), self._markdown_sections(figures))

    def _markdown_sections(self, figures: str | None) -> list[Section]:
        names = [] if figures is None else list(figures_of(self))
        return self._sections({name: f"{figures}/{name}.png" for name in names})

    def to_html(self) -> str:
        """Write the report as a page of HTML that needs no other file.

        Returns
        -------
        html : str
            The page, with the figures in it.
        """
        return html_page(title_of(self), self._html_sections())

    def _html_sections(self) -> list[Section]:
        return self._sections(
            {
                name: f"data:image/png;base64,{b64encode(png).decode()}"
                for name, png in self._pngs.items()
            }
        )

    def save(self, folder: str | PathLike[str]) -> None:
        """Write the report to a folder, which is made where there is none.

        Parameters
        ----------
        folder : str or path-like
            Gets the files "report.md", "report.html" and those of the figures,
            "figures/scores.png" and so on. Older files of these names are overwritten.
        """
        folder = Path(folder)
        (folder / "figures").mkdir(parents=True, exist_ok=True)
        for name, png in self._pngs.items():
            (folder / "figures" / f"{name}.png").write_bytes(png)
        (folder / "report.md").write_text(self.to_markdown(), encoding="utf-8")
        (folder / "report.html").write_text(self.to_html(), encoding="utf-8")

    def to_card(self, model: Any = None) -> Any:
        """Turn the report into a model card of skops, to go on with.

        Parameters
        ----------
        model : estimator, default=None
            What the card describes, such as the monitor; the card adds no text of its own about it.

        Returns
        -------
        card : skops.card.Card
            A card with the sections of the report. Its figures are those that :meth:`save` writes
            into the folder of the card.

        Raises
        ------
        ImportError
            If skops is not installed.
        """
        skops = import_optional("skops.card", "card", "MonitorReport.to_card")
        card = skops.Card(model, model_diagram=False, template=None)
        # A slash begins a part of a section.
        above = escape_markdown(title_of(self)).replace("/", "\\/")
        for section in self._markdown_sections("figures"):
            card.add(**{f"{above}/{section.title}": section.markdown()})
        return card

    def _repr_html_(self) -> str:
        return html_fragment(title_of(self), self._html_sections())

    def __repr__(self) -> str:
        alarms = self.false_alarms
        measured = f"{percent(alarms['rejected'])} of {alarms['n_rows']}"
        return (
            f"MonitorReport(network={self.network!r}, n_tested={self.data['n_tested']}, "
            f"false_alarms={measured!r}, out_sets={len(self.out_sets)})"
        )
