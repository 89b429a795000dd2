// One file of the service and all that it imports.
import { relative } from "node:path";
import { rolldown } from "rolldown";
import { UserError } from "./error.mjs";
import { linesOf } from "./lines.mjs";

const ENTRY = "\0skiff:entry";
const LINES = "\0skiff:lines";

/** The bundle's text. `source` is the service's entry, an absolute path; names in messages are relative to `folder`. */
export async function bundle(source, folder) {
  return withLines(await build(entry(source), folder, "esm"), folder);
}

/** The same as a function's body that requires what it imports of the node. */
export async function bundleToRead(source, folder) {
  return withLines(await build(entry(source), folder, "cjs"), folder);
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

async function build(text, folder, format) {
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
      },
    ],
  }).catch(refuse(folder));
  try {
    const { output } = await bundler.generate({ dir: folder, format, sourcemap: true, codeSplitting: false }).catch(refuse(folder));
    const chunk = output.find((part) => part.type === "chunk");
    return { code: chunk.code, map: chunk.map };
  } finally {
    await bundler.close();
  }
}

/** Joins the service's handler to the engine's fetch event. */
function entry(source) {
  return `
import * as service from ${JSON.stringify(source)};
import { serve } from ${JSON.stringify(new URL("../runtime/serve.js", import.meta.url).pathname)};
serve(service);
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
