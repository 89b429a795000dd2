// The hello example in JavaScript: the same answer, so that the benchmarks can compare.
addEventListener("fetch", (event) => {
  event.respondWith(new Response("Hello from Skiff!\n", { headers: { "content-type": "text/plain; charset=utf-8" } }));
});
