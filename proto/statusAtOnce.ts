/**
 * The status of a unary answer goes with its message. grpc-js sends it once the message has been
 * taken, and Node ends a stream that has trailers only when its last write has left: turns of the
 * loop later, for which the caller waits, as an answer counts with its status. No gRPC library in
 * here.
 */

/** What is used of grpc-js's call; the last two are its own, and looked for before they are. */
interface UnaryCall {
  sendMessage(message: unknown, sent: () => void): void;
  readonly stream?: { _final?(done: () => void): void };
  /** The status is given, and goes when the stream asks for its trailers. */
  readonly wantTrailers?: boolean;
}

export function statusAtOnce<Call extends UnaryCall>(
  method: { readonly requestStream: boolean; readonly responseStream: boolean },
  call: Call,
): Call {
  if (method.requestStream || method.responseStream) return call;
  const sendMessage = call.sendMessage.bind(call);
  call.sendMessage = (message, sent) => {
    // Where it fails the call ends with that, and the status that follows is not sent.
    sendMessage(message, () => {});
    sent();
    // What the stream does itself later; the second time does nothing.
    if (call.wantTrailers === true) call.stream?._final?.(() => {});
  };
  return call;
}
