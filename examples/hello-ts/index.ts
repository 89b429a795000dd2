// A standard fetch handler. The type says what a service may be; the engine needs only the function.
import type { Service } from "skiff-sdk";

export default {
  fetch(request: Request): Response {
    if (request.method !== "GET" && request.method !== "HEAD") {
      return new Response("only GET is answered\n", { status: 405, headers: { allow: "GET, HEAD" } });
    }
    return new Response("Hello from Skiff!\n", { headers: { "content-type": "text/plain; charset=utf-8" } });
  },
} satisfies Service;
