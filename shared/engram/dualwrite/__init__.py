"""Moves a live application from another memory store to engram without losing a write."""

from engram.dualwrite.asynchronous import AsyncDualWriter
from engram.dualwrite.core import Options
from engram.dualwrite.phases import PHASES, Phase, from_environment, from_file
from engram.dualwrite.stats import Divergence, ShadowStats, Stats
from engram.dualwrite.stores import OldStore
from engram.dualwrite.stores.mem0 import Mem0Store
from engram.dualwrite.stores.sql import SqlStore, SqlTable
from engram.dualwrite.stores.zep import ZepCalls, ZepStore
from engram.dualwrite.writer import DualWriter

__all__ = [
    "PHASES",
    "AsyncDualWriter",
    "Divergence",
    "DualWriter",
    "Mem0Store",
    "OldStore",
    "Options",
    "Phase",
    "ShadowStats",
    "SqlStore",
    "SqlTable",
    "Stats",
    "ZepCalls",
    "ZepStore",
    "from_environment",
    "from_file",
]
