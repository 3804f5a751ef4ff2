import numpy as np
import pytest


@pytest.fixture(autouse=True)
def seeded():
    """`check_grads` draws its directions from NumPy's global generator."""
    np.random.seed(0)
