"""What a monitor does with files."""

from __future__ import annotations

from os import PathLike

from ._files import save


class FilesMixin:
    """Adds the writing of files to a monitor."""

    def save(self, folder: str | PathLike[str], *, network: str | None = "auto") -> None:
        """Write the monitor to a folder, which :func:`skood.load` reads in another process.

        The folder holds JSON and arrays; nothing in it is ever executed. A calibrated monitor stays
        calibrated, and one that learns in batches learns on.

        Parameters
        ----------
        folder : str or path-like
            The folder to make. One that this method has written is replaced as a whole.
        network : {"auto"} or None, default="auto"
            What to keep of the network: "auto" for as much as needs no code, which is all of a
            scikit-learn perceptron or an ONNX model, and the weights of a torch module or skorch
            net; None for nothing but its fingerprint, by which :func:`skood.load` knows it again.
            See :func:`skood.save`.

        Raises
        ------
        TypeError
            If something in the monitor is of a type that is not written, such as a function of the
            user or an estimator of another library. The message says where it is.
        ValueError
            If the network is not the one that ``fit`` saw.
        FileExistsError
            If the folder holds something else.

        See Also
        --------
        skood.load : Reads it.
        """
        save(self, folder, network=network)
