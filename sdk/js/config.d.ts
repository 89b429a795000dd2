/** The value of a key, if a Config or Secret that the manifest names has it. Each read sees the newest. */
export function get(key: string): string | undefined;

/** The value of a key without which the service cannot work; throws where there is none. */
export function require(key: string): string;

/** Every key with its value. */
export function all(): Record<string, string>;
