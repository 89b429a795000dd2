// One file of the service and all that it imports.
import { relative } from "node:path";
import { rolldown } from "rolldown";
import { UserError } from "./error.mjs";
import { linesOf } from "./lines.mjs";

const ENTRY = "\0skiff:entry";
const LINES = "\0skiff:lines";

/**
 * The bundle's text, and whether it is of a module that runs on its own and does not answer requests. `source` is the
 * service's entry, an absolute path; names in messages are relative to `folder`.
 */
export async function bundle(source, folder) {
  const served = await build(entry(source), folder, "esm", source);
  const runs = runsAlone(served);
  const made = runs ? await build(workerEntry(source), folder, "esm", source) : served;
  return { code: withLines(made, folder), runs };
}

/** The code of a service as a function's body that requires what it imports of the node; none for what runs on its own. */
export async function bundleToRead(source, folder) {
  const made = await build(entry(source), folder, "cjs", source);
  return runsAlone(made) ? undefined : withLines(made, folder);
}

/** A handler may export anything beside its default, also something called run. */
function runsAlone({ exports, hasDefault }) {
  return exports.includes("run") && !hasDefault;
}

/** The bundle of a module that is no file. */
export async function bundleText(text) {
  return (await build(text, process.cwd(), "esm")).code;
}

/** With the table in it. It comes last, so that no line above it moves. */
function withLines({ code, map }, folder) {
  return code.replace(TABLE_NOWHERE, () => `globalThis.__skiffLines = ${linesOf(map, folder)};`);
}

const TABLE_NOWHERE = "globalThis.__skiffLines = [];";

/** Also says what the bundle exports, and whether the module of `source` has a default, which no `export *` passes on. */
async function build(text, folder, format, source) {
  let hasDefault = false;
  const bundler = await rolldown({
    input: ENTRY,
    platform: "neutral",
    // What a node offers: the engine binds it.
    external: /^wasi:/,
    resolve: { mainFields: ["module", "main"], conditionNames: ["import", "worker", "browser", "default"] },
    logLevel: "silent",
    plugins: [
      {
        name: "skiff",
        resolveId: (id) => (id === ENTRY || id === LINES ? id : undefined),
        load: (id) => {
          if (id === ENTRY) return text;
          return id === LINES ? TABLE_NOWHERE : undefined;
        },
        buildEnd() {
          hasDefault = (source && this.getModuleInfo(source)?.exports.includes("default")) ?? false;
        },
      },
    ],
  }).catch(refuse(folder));
  try {
    const { output } = await bundler.generate({ dir: folder, format, sourcemap: true, codeSplitting: false }).catch(refuse(folder));
    const chunk = output.find((part) => part.type === "chunk");
    return { code: chunk.code, map: chunk.map, exports: chunk.exports, hasDefault };
  } finally {
    await bundler.close();
  }
}

/** Joins the service's handler to the engine's fetch event. What the service exports is told by what this one does. */
function entry(source) {
  return `
import * as service from ${JSON.stringify(source)};
export * from ${JSON.stringify(source)};
import { serve } from ${JSON.stringify(new URL("../runtime/serve.js", import.meta.url).pathname)};
serve(service);
import ${JSON.stringify(LINES)};
`;
}

/** Joins what runs on its own to the component's export. */
function workerEntry(source) {
  return `
import * as service from ${JSON.stringify(source)};
import { runner } from ${JSON.stringify(new URL("../runtime/run.js", import.meta.url).pathname)};
export const run = runner(service);
import ${JSON.stringify(LINES)};
`;
}

/** What the bundler says, as FILE:LINE:COLUMN: MESSAGE lines. */
function refuse(folder) {
  return (error) => {
    const errors = error.errors ?? [error];
    const texts = errors.map((one) => {
      const at = one.loc ? `${relative(folder, one.loc.file ?? one.id ?? "")}:${one.loc.line}:${one.loc.column + 1}: ` : "";
      return at + (one.message ?? String(one)).trim();
    });
    throw new UserError(`failed to bundle the service\n${texts.join("\n")}`);
  };
}
