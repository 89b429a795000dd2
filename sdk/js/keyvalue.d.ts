/** The manifest does not name the bucket, it is full, or it cannot be reached: the message says which. */
export class KeyValueError extends Error {}

/** A bucket that the manifest names, such as `keyvalue: [{bucket: carts}]`. Throws {@link KeyValueError}, as its methods do. */
export function open(name: string): Bucket;

/** Values by key. What a call has answered is on a disk. A key has up to 1 KiB, a value up to 1 MiB. */
export interface Bucket {
  get(key: string): Uint8Array | undefined;
  /** The value as text; throws a TypeError where it is not UTF-8. */
  getText(key: string): string | undefined;
  /** A value that was set with `setJson`. */
  getJson<T = unknown>(key: string): T | undefined;
  set(key: string, value: string | Uint8Array): void;
  setJson(key: string, value: unknown): void;
  /** Takes a key away; one that is not there is no error. */
  delete(key: string): void;
  exists(key: string): boolean;
  /** All keys in their order. */
  keys(): string[];
  /** Adds to a number, which is kept as decimal text, and answers the sum. No two callers get the same one. Exact up to 2^53. */
  increment(key: string, delta?: number): number;
  /** Makes a new value of the one that is there, as though nobody else did so at the same time; `change` may be called several times. */
  update(key: string, change: (value: Uint8Array | undefined) => string | Uint8Array): void;
  /** Each key with its value. */
  getMany(keys: string[]): Map<string, Uint8Array | undefined>;
  /** Sets all of them or none. */
  setMany(entries: Iterable<[string, string | Uint8Array]>): void;
  /** Takes all of them away or none. */
  deleteMany(keys: string[]): void;
}
