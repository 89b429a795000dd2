// The engine of `skiff dev`: it was made once, and reads the service that it is from the service's configuration.
//
// What the service would have done while its component was made, it does before its first request.
import { described } from "./serve.js";

const CONFIG = "wasi:config/store@0.2.0-rc.1";
/** Where the source is; skiff-js writes it so. Each value is VERSION:INDEX:COUNT:PART. */
const KEY = "skiff.source.";
/** What frames of the service are told by. */
const SOURCE = "skiff-service.js";
/** Parts may change while they are read. */
const PATIENCE_MS = 2000;

/** `modules` are what a service may import of the node, by name. */
export function start(modules) {
  const config = modules[CONFIG];
  const read = config.get;
  // The service sees the keys that are its own.
  const offered = { ...modules, [CONFIG]: { ...config, getAll: () => config.getAll().filter(([key]) => !key.startsWith(KEY)) } };
  let current;
  const listen = globalThis.addEventListener;
  listen("fetch", (event) => event.respondWith(answer(event)));

  async function answer(event) {
    try {
      const version = read(`${KEY}0`)?.split(":", 1)[0];
      if (current?.version !== version) current = { version, listeners: evaluate(await source()) };
    } catch (error) {
      console.error(`ERROR ${described(error)}`);
      return new Response("internal error\n", { status: 500 });
    }
    let answered;
    const asked = { request: event.request, waitUntil: (promise) => event.waitUntil(promise), respondWith: (response) => (answered = response) };
    current.listeners.forEach((listener) => listener(asked));
    if (answered === undefined) return new Response("the service does not answer\n", { status: 500 });
    return answered;
  }

  async function source() {
    for (const began = Date.now(); ; ) {
      const first = read(`${KEY}0`)?.split(":") ?? [];
      const parts = Array.from({ length: Number(first[2] ?? 0) }, (_, index) => read(`${KEY}${index}`)?.split(":") ?? []);
      if (parts.length > 0 && parts.every(([version]) => version === first[0])) return unpacked(parts.map((part) => part[3]).join(""));
      if (Date.now() - began > PATIENCE_MS) throw new Error("there is no source to run (hint: this engine is for skiff dev; skiff deploy makes a component)");
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  /** Runs the service's module, and returns who listens for requests. */
  function evaluate(code) {
    const listeners = [];
    globalThis.addEventListener = (type, listener) => (type === "fetch" ? listeners.push(listener) : listen(type, listener));
    globalThis.__skiffSource = SOURCE;
    // The table is the last statement: what fails above it is to be told with its lines as well.
    const table = code.lastIndexOf("globalThis.__skiffLines = ");
    if (table >= 0) (0, eval)(code.slice(table, code.indexOf("\n", table) + 1 || undefined));
    const module = { exports: {} };
    const run = (0, eval)(`(function (module, exports, require) {${code}\n})\n//# sourceURL=${SOURCE}`);
    run(module, module.exports, (name) => offered[name]);
    return listeners;
  }
}

async function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), (digit) => digit.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
}
