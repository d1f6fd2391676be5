/**
 * Whether two records say the same: plain objects, arrays, byte arrays and scalars, by content. A
 * field that is undefined equals one that is absent. Used to tell a changed specification from a
 * rewritten one; it never looks at prototypes and must not be given cycles.
 */
export function sameValue(left: unknown, right: unknown): boolean {
  if (Object.is(left, right)) return true;
  if (typeof left !== 'object' || typeof right !== 'object') return false;
  if (left === null || right === null) return false;
  if (left instanceof Uint8Array || right instanceof Uint8Array) {
    if (!(left instanceof Uint8Array) || !(right instanceof Uint8Array)) return false;
    return left.length === right.length && left.every((byte, at) => byte === right[at]);
  }
  if (Array.isArray(left) || Array.isArray(right)) {
    if (!Array.isArray(left) || !Array.isArray(right) || left.length !== right.length) return false;
    return left.every((item, at) => sameValue(item, right[at]));
  }
  return sameFields(left as Record<string, unknown>, right as Record<string, unknown>);
}

function sameFields(left: Record<string, unknown>, right: Record<string, unknown>): boolean {
  for (const key of Object.keys(left)) {
    if (!sameValue(left[key], right[key])) return false;
  }
  for (const key of Object.keys(right)) {
    if (right[key] !== undefined && !Object.hasOwn(left, key)) return false;
  }
  return true;
}
