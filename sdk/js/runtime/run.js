// Joins a module that exports `run` to what a worker or a job is: it runs once, to its end.
import { getArguments } from "wasi:cli/environment@0.2.10";
import { described } from "./serve.js";

/** `service` is the module's namespace. What it throws is said with the user's own lines, and is a failure. */
export function runner({ run }) {
  return {
    async run() {
      try {
        // The first is the component's own name.
        await run(getArguments().slice(1));
      } catch (error) {
        console.error(`ERROR ${described(error)}`);
        throw error;
      }
    },
  };
}
