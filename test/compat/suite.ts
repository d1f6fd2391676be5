/**
 * The table behind docs/compat.md: for every command and flag of the docker client one line, said
 * by a case that ran (works), or by a sentence (differs, not). What nobody speaks of fails the
 * test, so the table is whole; a case that fails fails the test, so it is true.
 */
import { GROUPS } from './commands.ts';

export type Verdict = 'works' | 'differs' | 'not';

export interface Case {
  readonly command: string;
  readonly flags: readonly string[];
  /** A sentence: what is true on the hosts afterwards. */
  readonly name: string;
  readonly run: () => Promise<void>;
}

interface Line {
  readonly verdict: Verdict;
  readonly note: string;
}

/** The command itself, without flags. */
export const ITSELF = '';

export class Suite {
  readonly cases: Case[] = [];
  readonly #lines = new Map<string, Line>();

  /**
   * `flags` of the command, and the command itself, work: `run` asserts it on the hosts. Of several
   * commands, when they send the same request.
   */
  works(
    command: string | readonly string[],
    flags: readonly string[],
    name: string,
    run: () => Promise<void>,
  ): void {
    const commands = [command].flat();
    this.cases.push({ command: commands.join(', '), flags, name, run });
    for (const each of commands) {
      for (const flag of [ITSELF, ...flags]) {
        const key = `${each} ${flag}`;
        if (!this.#lines.has(key)) this.#lines.set(key, { verdict: 'works', note: '' });
      }
    }
  }

  /** The next case shows that these flags of `command` work, too. */
  also(command: string, flags: readonly string[]): void {
    for (const flag of flags) {
      this.#lines.set(`${command} ${flag}`, { verdict: 'works', note: '' });
    }
  }

  /** It does something, and not what Docker's does; `how` says what. */
  differs(command: string | readonly string[], flags: readonly string[], how: string): void {
    this.#say('differs', command, flags, how);
  }

  /** Refused; `why`, and what to do instead. */
  not(command: string | readonly string[], flags: readonly string[], why: string): void {
    this.#say('not', command, flags, why);
  }

  #say(
    verdict: Verdict,
    command: string | readonly string[],
    flags: readonly string[],
    note: string,
  ): void {
    for (const each of [command].flat()) {
      for (const flag of flags) this.#lines.set(`${each} ${flag}`, { verdict, note });
    }
  }

  /** Commands and flags that nobody speaks of, and those spoken of that docker does not have. */
  holes(commands: ReadonlyMap<string, readonly string[]>): string[] {
    const known = new Set<string>();
    for (const [command, flags] of commands) {
      for (const flag of [ITSELF, ...flags]) known.add(`${command} ${flag}`);
    }
    const show = (key: string): string => key.replace(/ (\S+)$/, ' --$1').trimEnd();
    return [
      ...[...known]
        .filter((key) => !this.#lines.has(key))
        .map((key) => `nobody tells: ${show(key)}`),
      ...[...this.#lines.keys()]
        .filter((key) => !known.has(key))
        .map((key) => `docker has no: ${show(key)}`),
    ];
  }

  counts(): Readonly<Record<Verdict, number>> {
    const counts = { works: 0, differs: 0, not: 0 };
    for (const { verdict } of this.#lines.values()) counts[verdict] += 1;
    return counts;
  }

  /** docs/compat.md. */
  page(commands: ReadonlyMap<string, readonly string[]>, client: string): string {
    const { works, differs, not } = this.counts();
    const out = [
      '# What docker’s commands do with tsswarm',
      '',
      `Made by \`test/e2e/compat.test.ts\`, which runs the real docker client (${client}) against a`,
      'lab. *works*: a case asserts what is then true on the hosts. Commands and flags in all: ' +
        `${works} work, ${differs} differ, ${not} do not.`,
      '',
    ];
    for (const group of GROUPS) {
      out.push(`## docker ${group}`, '');
      for (const [command, flags] of commands) {
        if (command.startsWith(`${group} `)) out.push(...this.#section(command, flags));
      }
    }
    return `${out.join('\n').trimEnd()}\n`;
  }

  #section(command: string, flags: readonly string[]): string[] {
    const by = (verdict: Verdict): string[] =>
      flags.filter((flag) => this.#lines.get(`${command} ${flag}`)?.verdict === verdict);
    const itself = this.#lines.get(`${command} ${ITSELF}`);
    const note = itself?.note === '' ? '' : `: ${itself?.note}`;
    const out = [`### ${command}`, '', `${itself?.verdict ?? 'unknown'}${note}`, ''];
    const works = by('works');
    if (works.length > 0) {
      out.push(`Flags that work: ${works.map((flag) => `\`--${flag}\``).join(', ')}.`, '');
    }
    for (const verdict of ['differs', 'not'] as const) {
      for (const flag of by(verdict)) {
        const line = this.#lines.get(`${command} ${flag}`);
        out.push(`- \`--${flag}\` ${verdict}: ${line?.note}`);
      }
    }
    if (out[out.length - 1] !== '') out.push('');
    return out;
  }
}
