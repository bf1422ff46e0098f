"""Prints the OpenAPI document of a descriptor set that was built with source info."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tools.descriptors import Contract
from tools.openapi.document import document

if __name__ == "__main__":
    contract = Contract.load(Path(sys.argv[1]))
    print(json.dumps(document(contract), indent=2, ensure_ascii=False))
