"""Where things are on this machine."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STARTER = ROOT / "jobs" / "starter"
SHARED = ROOT.parent / "shared"
"""Real collections and models, where they are present."""
