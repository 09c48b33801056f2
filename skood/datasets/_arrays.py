"""What the readers of image files hand on, and what the public functions return."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Images: TypeAlias = NDArray[np.uint8] | NDArray[np.float32]
"""Shape (n_samples, n_channels, height, width); 0 to 255 as uint8, or 0 to 1 as float32."""

Labels: TypeAlias = NDArray[np.int64]
"""Shape (n_samples,)."""

ImagesAndTarget: TypeAlias = tuple[NDArray[np.float32], NDArray[np.int64]]
"""Images as above and float32, and the class of each."""
