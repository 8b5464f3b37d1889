"""Where the tests of a file run."""

import pytest

on_ray = pytest.mark.usefixtures("ray_here")
here = pytest.mark.usefixtures("in_process")
