/**
 * --userns-remap: whose subordinate ids (subuid(5), subgid(5)) root in containers is on the host.
 * 'default' stands for the user dockremap, as with Docker, which gets ranges where it has none.
 * Reads the account files; writes only the ranges of 'default', and those only when told to.
 */
import { appendFileSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { SwarmError } from '../base/errors.ts';
import type { IdMap, IdMaps } from '../runtime/container/specRecords.ts';

/** The user's name for dockremap. */
export const REMAP_DEFAULT = 'default';
const DEFAULT_USER = 'dockremap';
/** As useradd gives them: first id, and how many. */
const RANGES_FROM = 100_000;
const RANGE_COUNT = 65_536;
const ID_END = 2 ** 32 - 1;

type Kind = 'uid' | 'gid';

interface Owner {
  readonly name: string;
  /** As a number; '' when it has no account. */
  readonly id: string;
}

interface UserRemap {
  readonly maps: IdMaps;
  /** Writes ranges that were chosen now, so that nobody else is given them. */
  readonly reserve: () => void;
}

/** Changes nothing yet. SwarmError invalid says what is missing. */
export function userRemap(text: string, directory = '/etc'): UserRemap {
  const isDefault = text === REMAP_DEFAULT;
  const match = /^([\w.][\w.-]*)(?::([\w.][\w.-]*))?$/.exec(isDefault ? DEFAULT_USER : text);
  if (match === null) {
    throw new SwarmError(
      'invalid',
      `invalid --userns-remap "${text}": write default, a user, or user:group`,
    );
  }
  const [, user, group] = match;
  const files = new Accounts(directory);
  const owner = isDefault ? { name: user, id: '' } : files.owner('passwd', user);
  // As Docker: a group of the user's name unless one is named.
  const groupOwner =
    isDefault || group === undefined ? { name: owner.name, id: '' } : files.owner('group', group);
  if (isDefault) {
    for (const kind of ['uid', 'gid'] as const) files.choose(kind, owner);
  }
  return {
    maps: { uids: files.ranges('uid', owner), gids: files.ranges('gid', groupOwner) },
    reserve: () => files.write(),
  };
}

class Accounts {
  readonly #directory: string;
  /** Lines that are to be added. */
  readonly #chosen = new Map<Kind, string>();

  constructor(directory: string) {
    this.#directory = directory;
  }

  #lines(file: string): readonly string[][] {
    let text: string;
    try {
      text = readFileSync(join(this.#directory, file), 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
      throw error;
    }
    return text
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('#'))
      .map((line) => line.split(':'));
  }

  /** By name or number. */
  owner(file: 'passwd' | 'group', key: string): Owner {
    const lines = this.#lines(file);
    const found =
      lines.find(([name]) => name === key) ?? lines.find(([, , number]) => number === key);
    if (found !== undefined) return { name: found[0], id: found[2] ?? '' };
    throw new SwarmError(
      'invalid',
      `--userns-remap: there is no ${file === 'passwd' ? 'user' : 'group'} ${key}`,
    );
  }

  #own(kind: Kind, { name, id }: Owner): readonly (readonly [first: number, count: number])[] {
    const chosen = this.#chosen.get(kind);
    return [...this.#lines(`sub${kind}`), ...(chosen === undefined ? [] : [chosen.split(':')])]
      .filter(([owner]) => owner === name || (id !== '' && owner === id))
      .map(([, first, count]) => [Number(first), Number(count)] as const)
      .filter(([first, count]) => isRange(first, count));
  }

  /** One after the other inside, from 0. */
  ranges(kind: Kind, owner: Owner): readonly IdMap[] {
    let inside = 0;
    const maps = this.#own(kind, owner).map(([outside, count]) => {
      const map = { inside, outside, count };
      inside += count;
      return map;
    });
    if (maps.length > 0) return maps;
    throw new SwarmError(
      'invalid',
      `--userns-remap: ${owner.name} has no range in ${join(this.#directory, `sub${kind}`)}: add ` +
        `a line like ${owner.name}:${RANGES_FROM}:${RANGE_COUNT}`,
    );
  }

  /** A range behind all others, unless it has one. */
  choose(kind: Kind, owner: Owner): void {
    if (this.#own(kind, owner).length > 0) return;
    const ends = this.#lines(`sub${kind}`)
      .map(([, first, count]) => [Number(first), Number(count)] as const)
      .filter(([first, count]) => isRange(first, count))
      .map(([first, count]) => first + count);
    const first = Math.max(RANGES_FROM, ...ends);
    if (!isRange(first, RANGE_COUNT)) {
      throw new SwarmError('exhausted', `no range of ${RANGE_COUNT} ids is left for ${owner.name}`);
    }
    this.#chosen.set(kind, `${owner.name}:${first}:${RANGE_COUNT}`);
  }

  /** What was chosen, unless it has been written meanwhile. */
  write(): void {
    for (const [kind, line] of this.#chosen) {
      if (this.#lines(`sub${kind}`).some((words) => words.join(':') === line)) continue;
      appendFileSync(join(this.#directory, `sub${kind}`), `${line}\n`, { mode: 0o644 });
    }
    this.#chosen.clear();
  }
}

function isRange(first: number, count: number): boolean {
  return (
    [first, count].every(Number.isInteger) && first > 0 && count > 0 && first + count <= ID_END
  );
}
