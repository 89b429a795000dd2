// A standard fetch handler: what answers here answers in any runtime that takes one, and so do Hono's and itty-router's.
export default {
  fetch(request) {
    if (request.method !== "GET" && request.method !== "HEAD") {
      return new Response("only GET is answered\n", { status: 405, headers: { allow: "GET, HEAD" } });
    }
    return new Response("Hello from Skiff!\n", { headers: { "content-type": "text/plain; charset=utf-8" } });
  },
};
