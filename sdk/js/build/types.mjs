// TypeScript's own check: the bundler only takes types away.
import { spawn } from "node:child_process";
import { access } from "node:fs/promises";
import { join } from "node:path";
import { UserError } from "./error.mjs";

/** Checks the project, if it has a tsconfig.json. What is wrong is said as the compiler says it, FILE(LINE,COLUMN). */
export async function checkTypes(folder) {
  if (!(await exists(join(folder, "tsconfig.json")))) return;
  const compiler = join(folder, "node_modules/.bin/tsc");
  if (!(await exists(compiler))) {
    throw new UserError("failed to find TypeScript, which tsconfig.json asks for (hint: npm ci)");
  }
  const { code, text } = await run(compiler, ["--noEmit", "--pretty", "false"], folder);
  if (code !== 0) throw new UserError(`failed to check the types\n${text.trimEnd()}`);
}

function run(program, args, cwd) {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { cwd, stdio: ["ignore", "pipe", "pipe"] });
    let text = "";
    child.stdout.on("data", (data) => (text += data));
    child.stderr.on("data", (data) => (text += data));
    child.on("error", reject);
    child.on("close", (code) => resolve({ code, text }));
  });
}

async function exists(path) {
  return access(path).then(() => true, () => false);
}
