"""operators run on any machine with torch: neither Ray nor the cluster side is imported."""

import pkgutil
import subprocess
import sys

from ray_rerank import operators

PROGRAM = """
import importlib, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "ray" or name in {"ray_rerank.cluster", "ray_rerank.jobs"}:
            raise ImportError(f"operators may not import {name}")
sys.meta_path.insert(0, Refuse())
for name in sys.argv[1:]:
    importlib.import_module(name)
"""


def test_every_operator_imports_where_ray_cannot_be_imported() -> None:
    names = [module.name for module in pkgutil.walk_packages(operators.__path__, "ray_rerank.operators.")]
    assert "ray_rerank.operators.scorers.cross_encoder" in names
    done = subprocess.run([sys.executable, "-c", PROGRAM, *names], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
