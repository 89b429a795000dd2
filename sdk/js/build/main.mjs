#!/usr/bin/env node
// skiff-js build OUT.wasm [ENTRY]: makes a component of the project in the current folder. `skiff build` calls it.
//
// skiff-js dev DIST [ENTRY] and skiff-js types are for `skiff dev`: see dev.mjs.
//
//   ENTRY and what it imports --bundle--> one file + where its lines come from --componentize--> OUT.wasm
//
// What is wrong with the user's source is said with file, line and column, and nothing else: exit code 1. A bug of this
// program shows its stack.
import { mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { bundle } from "./bundle.mjs";
import { componentize } from "./componentize.mjs";
import { prepare } from "./dev.mjs";
import { findEntry } from "./entry.mjs";
import { UserError } from "./error.mjs";
import { checkTypes } from "./types.mjs";

async function main([verb, out, entry]) {
  const folder = process.cwd();
  if (verb === "types") return checkTypes(folder);
  if (!["build", "dev"].includes(verb) || !out) {
    throw new UserError("failed to read the command line (hint: skiff-js build OUT.wasm [ENTRY])");
  }
  if (verb === "dev") return prepare(await findEntry(folder, entry), folder, resolve(out));
  const source = await findEntry(folder, entry);
  const scratch = await mkdtemp(join(tmpdir(), "skiff-js-"));
  try {
    // At once: each takes seconds, and what is wrong with the types is worth more than a component.
    const [component] = await Promise.all([
      bundle(source, folder).then((bundled) => componentize(bundled, scratch)),
      checkTypes(folder),
    ]);
    // Renamed into place: whoever watches the file never reads half of it.
    const target = resolve(out);
    const partial = join(dirname(target), `.${process.pid}.partial`);
    await writeFile(partial, component);
    await rename(partial, target);
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  console.error(error instanceof UserError ? `error: ${error.message}` : error);
  process.exitCode = 1;
}
