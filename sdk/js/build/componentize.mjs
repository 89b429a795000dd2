// One JavaScript file to a component.
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { UserError } from "./error.mjs";

/** What the embedded engine exports. It accepts no other. */
const WASI_VERSION = "0.2.10";
/** What jco has in it: the same interfaces, a patch version later. */
const WIT_VERSION = "0.2.12";

/** What every world has, by its full name. */
const ENVIRONMENT = `wasi:cli/environment@${WASI_VERSION}`;

/** What a node offers beside WASI 0.2, by package. A service imports what it uses of it, and no more. */
const OFFERED = {
  "wasi:config/store@0.2.0-rc.1": "wasi-config-0.2.0-rc.1",
  "wasi:keyvalue/store@0.2.0-draft2": "wasi-keyvalue-0.2.0-draft2",
  "wasi:keyvalue/atomics@0.2.0-draft2": "wasi-keyvalue-0.2.0-draft2",
  "wasi:keyvalue/batch@0.2.0-draft2": "wasi-keyvalue-0.2.0-draft2",
};

/** What every component has, and what it is: it answers requests, or runs on its own. */
function world(imports, runs) {
  const is = runs
    ? `import wasi:http/outgoing-handler@${WASI_VERSION};\n  export wasi:cli/run@${WASI_VERSION};`
    : `include wasi:http/proxy@${WASI_VERSION};`;
  return `package skiff:guest;

world service {
  ${is}
  import ${ENVIRONMENT};
${imports.map((name) => `  import ${name};\n`).join("")}}
`;
}

/** What the code imports that is no JavaScript. */
function importsOf(code) {
  const found = [...code.matchAll(/^import\b[^;]*?["'](wasi:[^"']+)["'];?$/gm)].map(([, name]) => name);
  const imports = [...new Set(found)].filter((name) => name !== ENVIRONMENT);
  offered(imports);
  return imports;
}

/** Refuses what no node has. */
export function offered(names) {
  const unknown = names.find((name) => !(name in OFFERED));
  if (unknown) {
    throw new UserError(`failed to import ${unknown}: no node offers it (hint: there are ${Object.keys(OFFERED).join(", ")})`);
  }
}

/** The component's bytes. `scratch` is an empty folder. */
export async function componentize({ code, runs }, scratch) {
  const witPath = join(scratch, "wit");
  await writeWit(witPath, importsOf(code), runs);
  // Not before it is needed: it takes a while to load.
  const { componentize: make } = await import("@bytecodealliance/componentize-js");
  const sourcePath = join(scratch, "service.js");
  await writeFile(sourcePath, code);
  try {
    const { component } = await make({ sourcePath, witPath, worldName: "service" });
    return component;
  } catch (error) {
    // The service's own code ran, and threw before there was a request.
    throw new UserError(`failed to start the service: what it does before its first request failed\n${error.message}`);
  }
}

async function writeWit(into, imports, runs) {
  // jco exports its code only: its folder is the one above dist/ or src/.
  const jco = fileURLToPath(new URL("..", import.meta.resolve("@bytecodealliance/jco")));
  const packages = join(jco, "lib/wit/builtin", WIT_VERSION);
  await mkdir(join(into, "deps"), { recursive: true });
  await writeFile(join(into, "world.wit"), world(imports, runs));
  for (const folder of new Set(imports.map((name) => OFFERED[name]))) {
    const text = await readFile(fileURLToPath(new URL(`../../wit/deps/${folder}/package.wit`, import.meta.url)), "utf8");
    await writeFile(join(into, "deps", `${folder}.wit`), text);
  }
  for (const name of await readdir(packages)) {
    const text = await readFile(join(packages, name, "package.wit"), "utf8");
    await writeFile(join(into, "deps", `${name}.wit`), text.replaceAll(`@${WIT_VERSION}`, `@${WASI_VERSION}`));
  }
}
