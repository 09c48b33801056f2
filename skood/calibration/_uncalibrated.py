"""The warning of thresholds that no rows held out have set."""


class UncalibratedWarning(UserWarning):
    """A threshold is an estimate: its rate of false alarms may be several times the wanted one.

    ``Monitor.fit`` warns where nothing says that the network has not seen its rows, and
    ``Monitor.calibrate`` of rows that the monitor has learnt from.

    See Also
    --------
    skood.Monitor.calibrate : Sets the threshold by rows that are held out.
    ConformalDetector : The same for any detector.

    Examples
    --------
    To hear of it as an error, or not at all:

    >>> import warnings
    >>> from skood.calibration import UncalibratedWarning
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore", UncalibratedWarning)
    """
