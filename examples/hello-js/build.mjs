// Makes a component of a JavaScript file: node build.mjs SOURCE.js WIT_FOLDER OUT.wasm
import { writeFile } from "node:fs/promises";
import { componentize } from "@bytecodealliance/componentize-js";

const [sourcePath, witPath, out] = process.argv.slice(2);
const { component } = await componentize({ sourcePath, witPath, worldName: "service" });
await writeFile(out, component);
