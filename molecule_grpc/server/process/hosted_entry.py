"""What Envoy loads: the worker's application, loaded without garbage collections.

What is loaded stays, so collections find nothing: they would be a tenth of the time of a load.
"""

from __future__ import annotations

import gc
import importlib

gc.disable()
# `freeze_startup_objects` lets them begin.
app = importlib.import_module("molecule_grpc.server.process.hosted").app
