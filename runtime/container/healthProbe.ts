/**
 * A health check's program as an exec in its container: output gathered up to a bound, killed when
 * it takes too long. The verdict is health.ts's.
 */
import type { Readable } from 'node:stream';
import { OUTPUT_MAX_BYTES, probeArgs } from './health.ts';
import { plainExec } from './plainExec.ts';
import type { Container, HealthCheck } from './types.ts';

/** For HealthMonitorOptions.exec. */
export function probeIn(
  container: Pick<Container, 'exec'>,
  check: HealthCheck,
  shell?: readonly string[],
): (signal: AbortSignal) => Promise<{ exitCode: number; output: string }> {
  return async (signal) => {
    const exec = await container.exec(plainExec(probeArgs(check, shell)));
    const kill = (): void => {
      exec.kill('SIGKILL').catch(() => {}); // it has ended, or its supervisor has: wait() tells
    };
    signal.addEventListener('abort', kill, { once: true });
    if (signal.aborted) kill();
    try {
      const output = new Output();
      output.take(exec.streams.stdout);
      output.take(exec.streams.stderr);
      const exitCode = await exec.wait();
      return { exitCode, output: output.text() };
    } finally {
      signal.removeEventListener('abort', kill);
      exec.streams.close();
    }
  };
}

/** Keeps the beginning of what is written and drops the rest, so that nothing is held back. */
class Output {
  readonly #chunks: Buffer[] = [];
  #size = 0;

  take(stream: Readable): void {
    stream.on('error', () => {
      // the exec ended; its exit code tells
    });
    stream.on('data', (chunk: Buffer) => {
      if (this.#size >= OUTPUT_MAX_BYTES) return;
      this.#size += chunk.length;
      this.#chunks.push(chunk);
    });
  }

  text(): string {
    return Buffer.concat(this.#chunks).subarray(0, OUTPUT_MAX_BYTES).toString('utf8');
  }
}
