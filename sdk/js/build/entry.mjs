// Which file is the service.
import { access, readFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { UserError } from "./error.mjs";

const NAMES = ["index.ts", "index.js", "src/index.ts", "src/index.js"];

/** The entry that was named, else package.json's `main`, else the first of the usual ones. An absolute path. */
export async function findEntry(folder, named) {
  const asked = named ?? (await mainOf(folder));
  if (asked) {
    const path = resolve(folder, asked);
    if (await exists(path)) return path;
    const where = named ? "the command line" : "main in package.json";
    throw new UserError(`failed to find ${asked}, which ${where} names (hint: write the file, or name another)`);
  }
  for (const name of NAMES) {
    const path = join(folder, name);
    if (await exists(path)) return path;
  }
  throw new UserError(`failed to find the service: there is none of ${NAMES.join(", ")} (hint: name it as main in package.json)`);
}

async function mainOf(folder) {
  const path = join(folder, "package.json");
  let text;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    throw new UserError(`failed to read package.json: ${error.message} (hint: run this in the project's folder)`);
  }
  try {
    return JSON.parse(text).main;
  } catch (error) {
    throw new UserError(`package.json: not JSON: ${error.message}`);
  }
}

async function exists(path) {
  return access(path).then(() => true, () => false);
}
