"""Muon in single precision: momentum whose direction is made orthogonal before it is applied.

``torch.optim.Muon`` does the same in bfloat16, matrix by matrix. On two cores without bfloat16 units that takes as
long as half a training step; stacking the matrices of one shape in single precision takes a sixth of it.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Final

import torch

COEFFICIENTS: Final = (3.4445, -4.7750, 2.0315)  # quintic Newton-Schulz iteration (Jordan et al., 2024)
ITERATIONS: Final = 5


def orthogonal(stack: torch.Tensor) -> torch.Tensor:
    """Push every singular value of each matrix in the stack towards one."""
    tall = stack.shape[1] > stack.shape[2]
    x = stack.transpose(1, 2) if tall else stack
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        square = x @ x.transpose(1, 2)
        x = a * x + (b * square + c * square @ square) @ x
    return x.transpose(1, 2) if tall else x


class Muon:
    """Steps a set of matrices; the rate is given anew at each step."""

    def __init__(self, matrices: Iterable[torch.nn.Parameter], *, momentum: float = 0.95, decay: float = 0.01) -> None:
        """Group the matrices by shape and start every momentum at nothing."""
        shapes: dict[torch.Size, list[torch.nn.Parameter]] = defaultdict(list)
        for matrix in matrices:
            shapes[matrix.shape].append(matrix)
        self.groups = [(group, torch.zeros((len(group), *shape))) for shape, group in shapes.items()]
        self.momentum = momentum
        self.decay = decay

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Move every matrix by its orthogonal direction (Nesterov), then forget the gradients."""
        for group, velocity in self.groups:
            gradient = torch.stack([matrix.grad for matrix in group if matrix.grad is not None])
            velocity.lerp_(gradient, 1 - self.momentum)
            direction = orthogonal(gradient.lerp(velocity, self.momentum))
            scale = max(1.0, direction.shape[1] / direction.shape[2]) ** 0.5
            for matrix, move in zip(group, direction, strict=True):
                matrix.mul_(1 - rate * self.decay).add_(move, alpha=-rate * scale)
                matrix.grad = None
