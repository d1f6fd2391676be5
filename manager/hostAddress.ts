/**
 * Where a host says it is reached. Every other host puts it into its tunnels, so that one wrong
 * word would keep them all from applying any network: only an address passes.
 */
import { SwarmError } from '../base/errors.ts';
import { parseAddress } from '../model/address.ts';

/** `claimed`, or where the call came from when that is ''. SwarmError invalid for a non-address. */
export function hostAddress(claimed: string, remote: string): string {
  if (claimed === '') return remote;
  if (parseAddress(claimed) !== undefined) return claimed;
  throw new SwarmError(
    'invalid',
    `the host's address ${JSON.stringify(claimed)} is no IPv4 address: use --advertise-addr`,
  );
}
