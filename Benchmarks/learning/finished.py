#!/usr/bin/env python3
"""A score that a program can check: 1 if a text is a finished sentence, else 0. For onebyte: JSON lines in, JSON lines out."""

import json
import sys

for line in sys.stdin:
    request = json.loads(line)
    print(json.dumps({"id": request["id"], "score": float(request["text"].rstrip().endswith((".", "!", "?")))}), flush=True)
