// Where the bundle's lines come from, small enough to travel in the component.
import { relative, resolve } from "node:path";

const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/**
 * A JavaScript expression: runs of [first line in the bundle, file, first line in the file, how many]. Lines count from 1.
 * Only the project's own files: what others wrote is in node_modules, and nobody looks for its mistakes there first.
 */
export function linesOf(map, folder) {
  const files = map.sources.map((source) => relative(folder, resolve(folder, source)));
  const isOwn = files.map((file) => !file.startsWith("..") && !/(^|\/)(node_modules|vendor)\//.test(file) && !file.includes("\0"));
  const runs = [];
  originals(map.mappings).forEach((original, index) => {
    if (!original || !isOwn[original.source]) return;
    const [line, from] = [index + 1, original.line + 1];
    const last = runs.at(-1);
    const goesOn = last && last[1] === files[original.source] && last[0] + last[3] === line && last[2] + last[3] === from;
    if (goesOn) last[3] += 1;
    else runs.push([line, files[original.source], from, 1]);
  });
  return JSON.stringify(runs);
}

/** For each line of the bundle the source and line of its first segment. Both count from 0. */
function originals(mappings) {
  let [source, line] = [0, 0];
  return mappings.split(";").map((segments) => {
    let first;
    for (const segment of segments ? segments.split(",") : []) {
      const fields = numbers(segment);
      if (fields.length < 4) continue;
      source += fields[1];
      line += fields[2];
      first ??= { source, line };
    }
    return first;
  });
}

/** The numbers of one segment of a source map: base64 digits of five bits, least first, the sign lowest. */
function numbers(segment) {
  const found = [];
  let [value, shift] = [0, 0];
  for (const digit of segment) {
    const bits = DIGITS.indexOf(digit);
    value += (bits & 31) << shift;
    shift += 5;
    if (bits & 32) continue;
    found.push(value & 1 ? -(value >> 1) : value >> 1);
    [value, shift] = [0, 0];
  }
  return found;
}
