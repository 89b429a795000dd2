/** What a service exports by default: Hono's and itty-router's routers are ones as they are. */
export interface Service {
  /** Answers one request. What it throws becomes a 500, and a line in the service's log that says where. */
  fetch(request: Request, env: Env, context: Context): Response | Promise<Response>;
}

/** Reserved; empty today. */
export type Env = Record<string, never>;

export interface Context {
  /** Keeps the instance until the promise is settled, also after the answer. */
  waitUntil(promise: Promise<unknown>): void;
}

/** What a worker or a job exports as `run`, and no default: it runs once, to its end, with the component's arguments. What it throws is a failure. */
export type Run = (args: string[]) => void | Promise<void>;
