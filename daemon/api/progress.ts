/**
 * Progress of image transfers as Docker's JSON lines, in order. While the reader is behind, of each
 * layer's running figures only the latest is kept, so that a slow reader holds up nothing and fills
 * no memory; words that change ('Download complete') are all told.
 */
import { formatSize } from '../../base/bytes.ts';
import type { ImageProgress } from '../../runtime/image/types.ts';
import type { ApiRequest, BodyWriter } from './http.ts';

export const JSON_STREAM = 'application/json';
/** A transfer has few words for each layer, and layers are bounded. */
const MAX_WAITING = 10_000;

export class ProgressStream {
  readonly #request: ApiRequest;
  #waiting: ImageProgress[] = [];
  #out: BodyWriter | undefined;
  #sending: Promise<void> = Promise.resolve();
  #busy = false;

  constructor(request: ApiRequest) {
    this.#request = request;
  }

  get started(): boolean {
    return this.#out !== undefined || this.#waiting.length > 0;
  }

  push(step: ImageProgress): void {
    this.#keep(step);
    if (this.#busy) return;
    this.#busy = true;
    // A caller that has gone ends the transfer through the request's signal.
    this.#sending = this.#drain().catch(() => {
      this.#waiting = [];
    });
  }

  #keep(step: ImageProgress): void {
    if (step.currentBytes !== undefined) {
      const same = this.#waiting.findIndex(
        (each) => each.id === step.id && each.status === step.status,
      );
      if (same >= 0) {
        this.#waiting[same] = step;
        return;
      }
    }
    if (this.#waiting.length < MAX_WAITING) this.#waiting.push(step);
  }

  async #drain(): Promise<void> {
    for (let step = this.#waiting.shift(); step !== undefined; step = this.#waiting.shift()) {
      await this.#write(progressLine(step));
    }
    this.#busy = false;
  }

  /** All that was pushed has been sent, or the caller has gone. */
  flushed(): Promise<void> {
    return this.#sending;
  }

  async line(value: object): Promise<void> {
    await this.#sending;
    await this.#write(value);
  }

  async #write(value: object): Promise<void> {
    this.#out ??= this.#request.stream(JSON_STREAM);
    await this.#out.line(value);
  }

  end(): void {
    this.#out ??= this.#request.stream(JSON_STREAM);
    this.#out.end();
  }
}

function progressLine(step: ImageProgress): object {
  if (step.id === '') return { status: step.status };
  const { status, id, currentBytes } = step;
  // Docker's first line has no details: clients print it apart from the layers' lines.
  if (status.startsWith('Pulling from ')) return { status, id };
  if (currentBytes === undefined) return { status, progressDetail: {}, id };
  const totalBytes = step.totalBytes ?? 0;
  return {
    status,
    progressDetail: { current: currentBytes, total: totalBytes },
    progress: progressBar(currentBytes, totalBytes),
    id,
  };
}

const BAR_WIDTH = 50;

/** '[====>      ]  1.2MB/3.4MB', which clients without a bar of their own print. */
function progressBar(currentBytes: number, totalBytes: number): string {
  if (totalBytes <= 0) return formatSize(currentBytes);
  const part = Math.min(Math.floor((currentBytes / totalBytes) * BAR_WIDTH), BAR_WIDTH);
  const arrow = part === BAR_WIDTH ? '' : '>';
  const done = `${'='.repeat(part)}${arrow}`.slice(0, BAR_WIDTH);
  return `[${done.padEnd(BAR_WIDTH)}] ${formatSize(currentBytes)}/${formatSize(totalBytes)}`;
}
