// What the service's Configs and Secrets say: `config: [app]` and `secrets: [stripe]` in the manifest name them.
import { get as read, getAll } from "wasi:config/store@0.2.0-rc.1";

export function get(key) {
  return read(key) ?? undefined;
}

export function require(key) {
  const value = get(key);
  if (value === undefined) {
    throw new Error(`no Config or Secret of this service has the key ${key} (hint: name one in config or secrets of the manifest)`);
  }
  return value;
}

export function all() {
  return Object.fromEntries(getAll());
}
