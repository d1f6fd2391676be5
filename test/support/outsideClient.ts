/**
 * One process in the lab's outside client that fetches URLs for a test, so that thousands of
 * requests cost no process each. Every request is a connection of its own.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { CLIENT_NAMESPACE } from '../../deploy/hosts/layout.ts';

const PROGRAM = `
const http = require('node:http');
require('node:readline').createInterface({ input: process.stdin }).on('line', (line) => {
  const { id, url, timeoutMs } = JSON.parse(line);
  const say = (answer) => process.stdout.write(JSON.stringify({ id, ...answer }) + '\\n');
  const asked = http.get(url, { agent: false, timeout: timeoutMs }, (response) => {
    let text = '';
    response.on('data', (part) => { text += part; });
    response.on('end', () => say({ text: text.trim() }));
    response.on('error', (error) => say({ error: String(error) }));
  });
  asked.on('timeout', () => asked.destroy(new Error('no answer in ' + timeoutMs + ' ms')));
  asked.on('error', (error) => say({ error: String(error) }));
});`;

interface Answer {
  readonly id: number;
  readonly text?: string;
  readonly error?: string;
}

export class OutsideClient {
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, (answer: Answer) => void>();
  #next = 0;

  constructor() {
    const command = ['netns', 'exec', CLIENT_NAMESPACE, 'node', '-e', PROGRAM];
    const child = spawn('ip', command, { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#child = child;
    createInterface({ input: child.stdout }).on('line', (line) => {
      const answer = JSON.parse(line) as Answer;
      this.#waiting.get(answer.id)?.(answer);
      this.#waiting.delete(answer.id);
    });
  }

  /** The body; rejects with what went wrong. */
  get(url: string, timeoutMs = 8000): Promise<string> {
    this.#next += 1;
    const id = this.#next;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, ({ text, error }) => {
        if (text !== undefined) resolve(text);
        else reject(new Error(`GET ${url}: ${error ?? 'no answer'}`));
      });
      this.#child.stdin?.write(`${JSON.stringify({ id, url, timeoutMs })}\n`);
    });
  }

  stop(): void {
    this.#child.kill('SIGKILL');
  }
}
