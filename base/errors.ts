/**
 * Operating errors: what can go wrong without a bug. One class with a stable code; the maps to HTTP
 * and gRPC status live here and nowhere else. The message is one line that says what is wrong and
 * how to mend it; it is shown to users as it is.
 */
export type ErrorCode =
  | 'invalid' // the request is malformed or out of range
  | 'not_found'
  | 'conflict' // exists already, or in use
  | 'out_of_sequence' // a stale version
  | 'unauthorized' // no or wrong credentials
  | 'forbidden' // known caller, not allowed
  | 'not_manager' // this node is no manager or not part of a swarm
  | 'not_leader' // retry at the leader
  | 'no_quorum' // managers cannot agree now
  | 'unavailable' // try again later
  | 'exhausted' // a bound was reached (space, addresses, queue)
  | 'timeout'
  | 'cancelled'
  | 'unsupported' // known, but not built or not possible on this host
  | 'corrupt' // stored state fails its checks
  | 'internal';

export class SwarmError extends Error {
  override readonly name = 'SwarmError';
  readonly code: ErrorCode;
  /** Facts for programs, e.g. the leader's address; never secrets. */
  readonly detail: Readonly<Record<string, string>>;

  constructor(
    code: ErrorCode,
    message: string,
    options: { cause?: unknown; detail?: Record<string, string> } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.detail = options.detail ?? {};
  }
}

const HTTP_STATUS: Readonly<Record<ErrorCode, number>> = {
  invalid: 400,
  not_found: 404,
  conflict: 409,
  out_of_sequence: 500, // Docker answers 500 "update out of sequence"
  unauthorized: 401,
  forbidden: 403,
  not_manager: 503,
  not_leader: 503,
  no_quorum: 503,
  unavailable: 503,
  exhausted: 507,
  timeout: 504,
  cancelled: 499,
  unsupported: 501,
  corrupt: 500,
  internal: 500,
};

/** gRPC status codes by number (grpc/doc/statuscodes.md). */
const GRPC_STATUS: Readonly<Record<ErrorCode, number>> = {
  invalid: 3,
  not_found: 5,
  conflict: 6,
  out_of_sequence: 10,
  unauthorized: 16,
  forbidden: 7,
  not_manager: 9,
  not_leader: 9,
  no_quorum: 14,
  unavailable: 14,
  exhausted: 8,
  timeout: 4,
  cancelled: 1,
  unsupported: 12,
  corrupt: 15,
  internal: 13,
};

export function httpStatus(code: ErrorCode): number {
  return HTTP_STATUS[code];
}

export function grpcStatus(code: ErrorCode): number {
  return GRPC_STATUS[code];
}

export function isErrorCode(text: string): text is ErrorCode {
  return Object.hasOwn(HTTP_STATUS, text);
}

export function hasCode(error: unknown, code: ErrorCode): error is SwarmError {
  return error instanceof SwarmError && error.code === code;
}

/** The line a person should read for any thrown value. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
