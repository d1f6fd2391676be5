/** What the simulation's checks say when a promise is broken; the kind is stable, the text is not. */
export class Violation extends Error {
  override readonly name = 'Violation';
  readonly kind: string;

  constructor(kind: string, message: string) {
    super(`${kind}: ${message}`);
    this.kind = kind;
  }
}

/** `text` is only made when it is needed. */
export function check(holds: boolean, kind: string, text: string | (() => string)): asserts holds {
  if (!holds) throw new Violation(kind, typeof text === 'string' ? text : text());
}
