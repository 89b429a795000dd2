// A worker: it runs on its own, and counts each second in a bucket. What it throws ends it; it begins again, later each time.
import { open } from "skiff-sdk/keyvalue";

const PAUSE_MS = 1000;

export async function run() {
  const beats = open("beats");
  for (;;) {
    console.log(`beat ${beats.increment("all")}`);
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  }
}
