"""Where examples come from: `open` reads folders of pictures, IDX, NPZ, CSV and Parquet files through one port.

Every reader streams the same rows in the same order in bounded memory, can begin anywhere, and names file and row of what
it cannot read. Absent: everything that is done with the rows.
"""

from export.data.dataset import UNLABELLED, Batch, DataError, Dataset
from export.data.readers import open

__all__ = ["UNLABELLED", "Batch", "DataError", "Dataset", "open"]
