// Joins a service to the engine: its default export answers, and what it throws is said with the user's own lines.

// The engine prints an error as a call of its constructor, with a line of the bundle.
for (const level of ["debug", "log", "info", "warn", "error"]) {
  const print = console[level].bind(console);
  console[level] = (...values) => print(...values.map((value) => (value instanceof Error ? described(value) : value)));
}

/** `service` is the module's namespace: `export default { fetch }`, as Hono and itty-router make it, or a function. */
export function serve(service) {
  const handler = service.default;
  const answer = typeof handler === "function" ? handler : handler?.fetch?.bind(handler);
  // A module without a default export has its own listener for the fetch event.
  if (typeof answer !== "function") {
    if ("default" in service) {
      throw new TypeError("the default export has no fetch function (hint: export default { fetch(request) { … } })");
    }
    return;
  }
  addEventListener("fetch", (event) => event.respondWith(respond(answer, event)));
}

async function respond(answer, event) {
  try {
    const context = { waitUntil: (promise) => event.waitUntil(promise), passThroughOnException() {} };
    return await answer(event.request, {}, context);
  } catch (error) {
    console.error(`ERROR ${described(error)}`);
    return new Response("internal error\n", { status: 500 });
  }
}

/** An error with where it came from, as FILE:LINE of the project. */
export function described(error) {
  if (!(error instanceof Error)) return `the handler threw ${String(error)}`;
  const frames = String(error.stack ?? "").split("\n").map(place).filter(Boolean);
  return [`${error.name}: ${error.message}`, ...frames.map((frame) => `    at ${frame}`)].join("\n");
}

/** One frame, `NAME@FILE:LINE:COLUMN`. Frames of the engine and of libraries are none. */
function place(frame) {
  const found = /^(.*?)@(.*):(\d+):(\d+)$/.exec(frame);
  // Where an engine reads the service, the engine has frames of its own.
  if (!found || !found[2].includes(globalThis.__skiffSource ?? "")) return undefined;
  const [name, line] = [found[1], Number(found[3])];
  const run = (globalThis.__skiffLines ?? []).find(([first, , , count]) => line >= first && line < first + count);
  if (!run) return undefined;
  const at = `${run[1]}:${run[2] + line - run[0]}`;
  return name ? `${name} (${at})` : at;
}
