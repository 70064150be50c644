# SPDX-License-Identifier: Apache-2.0
"""Start fakeai so that it is no game of chance: with functions on offer a run always asks for one."""

import os
import random
import sys
import warnings

warnings.simplefilter("ignore")
os.environ["FAKEAI_RESPONSE_DELAY"] = "0.2"
random.random = lambda: 0.1

import uvicorn  # noqa: E402 - after what it is to be started with
from fakeai.app import app  # noqa: E402

uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
