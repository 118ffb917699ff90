"""Networks for tests are so small that several threads of torch spend their time on waiting for each other."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
