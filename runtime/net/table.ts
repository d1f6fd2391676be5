/**
 * An nftables table as a value, its text, and the text that turns one into another; pure. A table
 * is: a fixed part (declarations of sets and maps, base chains), plain chains with their rules, and
 * elements of the sets and maps. When only chains and elements differ the change touches only
 * those; when the fixed part differs the table is replaced, in one transaction either way.
 */

export interface NftTable {
  readonly family: 'ip' | 'ip6' | 'bridge';
  readonly name: string;
  /** Declarations and base chains: the inside of `table ip NAME { }`. */
  readonly fixed: string;
  /** Plain chains: name -> rules. */
  readonly chains: ReadonlyMap<string, readonly string[]>;
  /** Set or map name -> element key -> value ('' for sets). */
  readonly elements: ReadonlyMap<string, ReadonlyMap<string, string>>;
}

function full(table: NftTable): string {
  return `${table.family} ${table.name}`;
}

/**
 * The table where there is none of its name. In a namespace just made this is also much the faster
 * way: a transaction that deletes anything makes the next close of its socket wait 12 ms.
 */
export function createTable(table: NftTable): string {
  const lines = [`table ${full(table)} {`];
  for (const [name, rules] of table.chains) {
    lines.push(`chain ${name} {`, ...rules, '}');
  }
  lines.push(table.fixed.trim(), '}');
  for (const [set, elements] of table.elements) {
    if (elements.size > 0) lines.push(elementCommand('add', table, set, [...elements]));
  }
  return `${lines.join('\n')}\n`;
}

/** The whole table in place of whatever has its name. */
export function replaceTable(table: NftTable): string {
  return removeTable(table.family, table.name) + createTable(table);
}

/** Removes the table; harmless when it is not there. */
export function removeTable(family: string, name: string): string {
  return `add table ${family} ${name}\ndelete table ${family} ${name}\n`;
}

function elementCommand(
  verb: 'add' | 'delete',
  table: NftTable,
  set: string,
  elements: readonly (readonly [string, string])[],
): string {
  const text = elements.map(([key, value]) => (value === '' ? key : `${key} : ${value}`));
  return `${verb} element ${full(table)} ${set} { ${text.join(', ')} }`;
}

function sameRules(left: readonly string[], right: readonly string[] | undefined): boolean {
  return right?.length === left.length && left.every((rule, at) => rule === right[at]);
}

/** Text for one nft transaction; '' when nothing differs. */
export function diffTable(before: NftTable | undefined, after: NftTable): string {
  const sameFrame =
    before !== undefined && before.fixed === after.fixed && before.name === after.name;
  if (!sameFrame) return replaceTable(after);
  const lines: string[] = [];
  for (const [name, rules] of after.chains) {
    const old = before.chains.get(name);
    if (sameRules(rules, old)) continue;
    lines.push(old === undefined ? `add chain ${full(after)} ${name}` : '');
    if (old !== undefined) lines.push(`flush chain ${full(after)} ${name}`);
    for (const rule of rules) lines.push(`add rule ${full(after)} ${name} ${rule}`);
  }
  for (const [set, elements] of after.elements) diffElements(before, after, set, elements, lines);
  for (const name of before.chains.keys()) {
    if (!after.chains.has(name)) lines.push(`delete chain ${full(after)} ${name}`);
  }
  const text = lines.filter((line) => line !== '').join('\n');
  return text === '' ? '' : `${text}\n`;
}

function diffElements(
  before: NftTable,
  after: NftTable,
  set: string,
  elements: ReadonlyMap<string, string>,
  lines: string[],
): void {
  const old = before.elements.get(set) ?? new Map<string, string>();
  const gone = [...old].filter(([key, value]) => elements.get(key) !== value);
  const fresh = [...elements].filter(([key, value]) => old.get(key) !== value);
  if (gone.length > 0) lines.push(elementCommand('delete', after, set, gone));
  if (fresh.length > 0) lines.push(elementCommand('add', after, set, fresh));
}

/** `dnat to` one of `targets`, each as likely as the others. */
export function balance(targets: readonly string[]): string {
  if (targets.length === 1) return `dnat to ${targets[0].replace(' . ', ':')}`;
  const map = targets.map((target, at) => `${at} : ${target}`).join(', ');
  return `dnat to numgen random mod ${targets.length} map { ${map} }`;
}
