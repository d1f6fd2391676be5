/**
 * A write of 1 KB and a linearizable read as etcd's and tsswarm's gRPC interfaces word them, and
 * the little protobuf that takes: fields by number, written and read by hand, so that the client of
 * both is the same program and costs the same. No socket in here.
 */
const VARINT = 0;
const BYTES = 2;
export const VALUE_BYTES = 1024;
/** At the head of each value, so that no two are alike. */
const COUNTER_DIGITS = 12;
const FILLING = Buffer.alloc(VALUE_BYTES - COUNTER_DIGITS, 'v');

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) bytes.push((rest % 0x80) | 0x80);
  return Buffer.from([...bytes, rest]);
}

function whole(field: number, value: number): Buffer {
  return Buffer.concat([varint(field * 8 + VARINT), varint(value)]);
}

function bytes(field: number, value: Uint8Array | string): Buffer {
  const content = typeof value === 'string' ? Buffer.from(value) : value;
  return Buffer.concat([varint(field * 8 + BYTES), varint(content.length), content]);
}

/** The last value of a field of a message; undefined when it is not there. */
export function fieldOf(message: Buffer, wanted: number): bigint | Buffer | undefined {
  let at = 0;
  const number = (): bigint => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = message[at];
      at += 1;
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
  };
  let found: bigint | Buffer | undefined;
  while (at < message.length) {
    const tag = Number(number());
    let value: bigint | Buffer;
    if (tag % 8 === VARINT) {
      value = number();
    } else if (tag % 8 === BYTES) {
      const length = Number(number());
      value = message.subarray(at, at + length);
      at += length;
    } else {
      throw new Error(`a field of wire type ${tag % 8} in an answer`);
    }
    if (Math.floor(tag / 8) === wanted) found = value;
  }
  return found;
}

export interface Call {
  readonly path: string;
  readonly request: Buffer;
}

/** One record that one client writes and reads. */
export interface Key {
  readonly name: string;
  /** tsswarm's id and version of the object; etcd needs neither. */
  id: string;
  version: number;
}

export interface Dialect {
  /** Makes the record. */
  create(key: Key, counter: number): Call;
  update(key: Key, counter: number): Call;
  read(key: Key): Call;
  /** Takes in what an answer to create or update says of the record. */
  written(key: Key, answer: Buffer): void;
}

function valueBytes(counter: number): Buffer {
  return Buffer.concat([Buffer.from(String(counter).padStart(COUNTER_DIGITS, '0')), FILLING]);
}

const ETCD: Dialect = {
  create: (key, counter) => ETCD.update(key, counter),
  update: (key, counter) => ({
    path: '/etcdserverpb.KV/Put',
    request: Buffer.concat([bytes(1, key.name), bytes(2, valueBytes(counter))]),
  }),
  read: (key) => ({ path: '/etcdserverpb.KV/Range', request: bytes(1, key.name) }),
  written: () => {},
};

/** A config whose label holds the value; it is created with data of a few bytes. */
const TSSWARM: Dialect = {
  create: (key, counter) => {
    const spec = [bytes(1, key.name), label(counter), bytes(3, 'data')];
    return call('CreateData', bytes(2, Buffer.concat(spec)));
  },
  update: (key, counter) =>
    call('UpdateData', bytes(2, key.id), whole(3, key.version), bytes(4, label(counter))),
  read: (key) => call('GetData', bytes(2, key.id)),
  written: (key, answer) => {
    const object = fieldOf(answer, 1);
    if (!(object instanceof Buffer)) throw new Error('an answer without an object');
    if (key.id === '') key.id = String(fieldOf(object, 1));
    key.version = Number(fieldOf(answer, 2));
  },
};

function call(method: string, ...fields: readonly Buffer[]): Call {
  const request = Buffer.concat([bytes(1, 'config'), ...fields]);
  return { path: `/tsswarm.v1.Control/${method}`, request };
}

function label(counter: number): Buffer {
  return bytes(2, Buffer.concat([bytes(1, 'value'), bytes(2, valueBytes(counter))]));
}

export const DIALECTS = { tsswarm: TSSWARM, etcd: ETCD } as const;

/** Of an answer to a read: shorter than this, it does not hold the value. */
export const READ_ANSWER_BYTES = VALUE_BYTES;

export const ETCD_STATUS: Call = {
  path: '/etcdserverpb.Maintenance/Status',
  request: Buffer.alloc(0),
};

/** Whether the etcd member that gave this status leads. */
export function leads(status: Buffer): boolean {
  const header = fieldOf(status, 1);
  const leader = fieldOf(status, 4);
  return header instanceof Buffer && leader !== undefined && fieldOf(header, 2) === leader;
}
