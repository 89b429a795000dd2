// Values that outlive a request, in buckets that the manifest names: `keyvalue: [{bucket: carts}]`.
import { Cas, increment, swap } from "wasi:keyvalue/atomics@0.2.0-draft2";
import { deleteMany, getMany, setMany } from "wasi:keyvalue/batch@0.2.0-draft2";
import { open as openStore } from "wasi:keyvalue/store@0.2.0-draft2";

/** How often an update tries again when others are faster. */
const UPDATES_MAX = 100;

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true });

export class KeyValueError extends Error {
  name = "KeyValueError";
}

/** Does it, and says what went wrong in words. */
function told(bucket, act) {
  try {
    return act();
  } catch (error) {
    throw failure(bucket, error?.payload ?? error);
  }
}

function failure(bucket, why) {
  switch (why?.tag) {
    case "no-such-store":
      return new KeyValueError(`there is no bucket ${bucket} (hint: add keyvalue: [{bucket: ${bucket}}] to the manifest)`);
    case "access-denied":
      return new KeyValueError(`the bucket ${bucket} may not be used`);
    case "other":
      return new KeyValueError(`the bucket ${bucket} could not be used: ${why.val}`);
    default:
      return why instanceof Error ? why : new KeyValueError(`the bucket ${bucket} could not be used: ${String(why)}`);
  }
}

function bytes(value) {
  return typeof value === "string" ? encoder.encode(value) : value;
}

export function open(name) {
  return new Bucket(name, told(name, () => openStore(name)));
}

class Bucket {
  #name;
  #bucket;

  constructor(name, bucket) {
    this.#name = name;
    this.#bucket = bucket;
  }

  #do(act) {
    return told(this.#name, act);
  }

  get(key) {
    return this.#do(() => this.#bucket.get(key)) ?? undefined;
  }

  getText(key) {
    const value = this.get(key);
    return value && decoder.decode(value);
  }

  getJson(key) {
    const text = this.getText(key);
    return text === undefined ? undefined : JSON.parse(text);
  }

  set(key, value) {
    this.#do(() => this.#bucket.set(key, bytes(value)));
  }

  setJson(key, value) {
    this.set(key, JSON.stringify(value));
  }

  delete(key) {
    this.#do(() => this.#bucket.delete(key));
  }

  exists(key) {
    return this.#do(() => this.#bucket.exists(key));
  }

  keys() {
    const keys = [];
    let cursor;
    do {
      const page = this.#do(() => this.#bucket.listKeys(cursor));
      keys.push(...page.keys);
      cursor = page.cursor ?? undefined;
    } while (cursor !== undefined);
    return keys;
  }

  increment(key, delta = 1) {
    return Number(this.#do(() => increment(this.#bucket, key, BigInt(delta))));
  }

  update(key, change) {
    let seen = this.#do(() => Cas.new(this.#bucket, key));
    for (let tries = 0; tries < UPDATES_MAX; tries++) {
      const value = bytes(change(this.#do(() => seen.current()) ?? undefined));
      try {
        swap(seen, value);
        return;
      } catch (error) {
        const why = error?.payload ?? error;
        if (why?.tag !== "cas-failed") throw failure(this.#name, why?.tag === "store-error" ? why.val : why);
        seen = why.val;
      }
    }
    throw new KeyValueError(`others change ${key} of the bucket ${this.#name} all the time`);
  }

  getMany(keys) {
    return new Map(this.#do(() => getMany(this.#bucket, keys)).map(([key, value]) => [key, value ?? undefined]));
  }

  setMany(entries) {
    this.#do(() => setMany(this.#bucket, [...entries].map(([key, value]) => [key, bytes(value)])));
  }

  deleteMany(keys) {
    this.#do(() => deleteMany(this.#bucket, keys));
  }
}
