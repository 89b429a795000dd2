// The quick way of `skiff dev`: an engine that is made once, and reads the service.
//
//   ENTRY and what it imports --bundle--> parts of a Config
//   what they import of the node --------> the engine for that, made if it is not there yet
import { createHash } from "node:crypto";
import { access, mkdtemp, readFile, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { bundleText, bundleToRead } from "./bundle.mjs";
import { componentize, offered } from "./componentize.mjs";

/** A Config has up to 64 KiB. */
const PART_CHARS = 60_000;
const CONFIG = "wasi:config/store@0.2.0-rc.1";

/** Writes DIST/dev.json: which engine runs the service, and the values that it reads; null for what no engine reads. */
export async function prepare(source, folder, dist) {
  const code = await bundleToRead(source, folder);
  // What runs on its own is begun anew with each change in any case.
  if (code === undefined) return write(join(dist, "dev.json"), "null");
  const imports = [...new Set([CONFIG, ...[...code.matchAll(/require\("(wasi:[^"]+)"\)/g)].map(([, name]) => name)])].sort();
  offered(imports);
  const engine = await engineFor(imports, dist);
  const packed = gzipSync(code).toString("base64");
  const version = createHash("sha256").update(code).digest("hex").slice(0, 16);
  const count = Math.ceil(packed.length / PART_CHARS);
  const parts = Array.from({ length: count }, (_, index) => {
    return `${version}:${index}:${count}:${packed.slice(index * PART_CHARS, (index + 1) * PART_CHARS)}`;
  });
  await write(join(dist, "dev.json"), JSON.stringify({ engine, parts }));
}

/** The engine's file, named after all that it is made of. */
async function engineFor(imports, dist) {
  const here = (path) => fileURLToPath(new URL(path, import.meta.url));
  const names = imports.map((name, index) => `import * as module${index} from ${JSON.stringify(name)};\n`).join("");
  const table = imports.map((name, index) => `${JSON.stringify(name)}: module${index}`).join(", ");
  const entry = `${names}import { start } from ${JSON.stringify(here("../runtime/reader.js"))};\nstart({ ${table} });\n`;
  const files = await Promise.all(["../runtime/reader.js", "../runtime/serve.js", "../package.json"].map((path) => readFile(here(path))));
  const hash = createHash("sha256").update(imports.join());
  files.forEach((file) => hash.update(file));
  const name = `engine-${hash.digest("hex").slice(0, 16)}.wasm`;
  const path = join(dist, name);
  if (await access(path).then(() => true, () => false)) return name;
  console.error("making the engine that reads the service, which takes some seconds once");
  const scratch = await mkdtemp(join(tmpdir(), "skiff-js-"));
  try {
    await write(path, await componentize({ code: await bundleText(entry), runs: false }, scratch));
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
  return name;
}

/** Renamed into place: whoever watches the file never reads half of it. */
async function write(path, content) {
  const partial = `${path}.${process.pid}.partial`;
  await writeFile(partial, content);
  await rename(partial, path);
}
