/**
 * SwarmError <-> gRPC status. Code and detail travel whole in trailing metadata, so that a follower
 * can hand the leader's answer on as if it were its own; a status made by gRPC itself (no such
 * trailers) is put into our words here. It knows numbers and strings only, not grpc-js.
 */
import { type ErrorCode, grpcStatus, isErrorCode, SwarmError } from '../base/errors.ts';

export const ERROR_CODE_KEY = 'tsswarm-error-code';
export const ERROR_DETAIL_KEY = 'tsswarm-error-detail-bin';
/** Trailers share HTTP/2's header bound; details are a few addresses and names. */
const MAX_DETAIL_BYTES = 4096;
/** grpc-js passes messages on as headers; a line for people does not need more. */
const MAX_MESSAGE_CHARACTERS = 2000;

export interface StatusParts {
  readonly code: number;
  readonly message: string;
  readonly errorCode: ErrorCode;
  readonly detail: Uint8Array;
}

/** What goes on the wire for a thrown value; anything but a SwarmError is 'internal'. */
export function statusOf(error: unknown): StatusParts {
  const known =
    error instanceof SwarmError
      ? error
      : new SwarmError('internal', error instanceof Error ? error.message : String(error));
  const detail = Buffer.from(JSON.stringify(known.detail));
  return {
    code: grpcStatus(known.code),
    message: known.message.slice(0, MAX_MESSAGE_CHARACTERS),
    errorCode: known.code,
    detail: detail.length > MAX_DETAIL_BYTES ? Buffer.from('{}') : detail,
  };
}

const CODE_OF_STATUS: Readonly<Record<number, ErrorCode>> = {
  1: 'cancelled',
  3: 'invalid',
  4: 'timeout',
  5: 'not_found',
  6: 'conflict',
  7: 'forbidden',
  8: 'exhausted',
  10: 'out_of_sequence',
  12: 'unsupported',
  14: 'unavailable',
  15: 'corrupt',
  16: 'unauthorized',
};

/** grpc-js's words for a stream that ended without an answer, under several codes. */
const CUT_OFF = /^(Received RST_STREAM|Call cancelled$)/;
/** ...and for a call that no server has begun. */
const UNSENT = /^(No connection established|Name resolution failed|Stream refused by server)/;

export function parseDetail(bytes: Uint8Array | undefined): Record<string, string> {
  if (bytes === undefined) return {};
  let parsed: unknown;
  try {
    parsed = JSON.parse(Buffer.from(bytes).toString('utf8'));
  } catch {
    return {}; // a detail is a help, not the error itself
  }
  if (typeof parsed !== 'object' || parsed === null) return {};
  return Object.fromEntries(
    Object.entries(parsed).filter((entry): entry is [string, string] => {
      return typeof entry[1] === 'string';
    }),
  );
}

/** The error a caller gets for a status other than OK. `address` is who was called. */
export function errorOfStatus(
  address: string,
  code: number,
  message: string,
  errorCode: string | undefined,
  detail: Uint8Array | undefined,
): SwarmError {
  if (errorCode !== undefined && isErrorCode(errorCode)) {
    return new SwarmError(errorCode, message, { detail: parseDetail(detail) });
  }
  const known = CODE_OF_STATUS[code] ?? 'internal';
  if (known === 'unavailable' || CUT_OFF.test(message)) return connectionError(address, message);
  return new SwarmError(known, `${address}: ${message}`);
}

/** For a failed connection; grpc-js wraps the reason in its own words: this finds it in them. */
export function connectionError(address: string, message: string): SwarmError {
  const reason = message
    .replace(/^.*Last error: /, '')
    .replace(/^Error: /, '')
    .replace(/ \(\d{4}-\d\d-\d\dT[^)]*\)/, '')
    .replace(/\. Resolution note: .*$/, '');
  if (/certificate has expired/i.test(reason)) {
    return new SwarmError(
      'unauthorized',
      `the certificate of ${address} has expired: check the clocks of both hosts`,
    );
  }
  if (/certificate|CERT_|presents a|answers there|SELF_SIGNED/i.test(reason)) {
    return new SwarmError(
      'unauthorized',
      `${address} is not a node of this cluster that may answer here (${reason})`,
    );
  }
  // grpc-js's words for a channel that rpc.ts gave up on while it was connecting.
  if (/Channel closed before call started/.test(reason)) {
    return new SwarmError('unavailable', `cannot reach ${address}: nothing answers there`, {
      detail: { reason: 'unreachable', unsent: 'true' },
    });
  }
  const refused = /ECONNREFUSED/.test(reason);
  // Nobody was reached, so that the call may be repeated without doing anything twice.
  if (refused || UNSENT.test(message)) {
    return new SwarmError('unavailable', `cannot reach ${address}: ${reason}`, {
      detail: { reason: refused ? 'refused' : 'unreachable', unsent: 'true' },
    });
  }
  return new SwarmError('unavailable', `the connection to ${address} broke: ${reason}`, {
    detail: { reason: 'broken' },
  });
}
