/**
 * Model <-> wire. One validating encode and one decode per type; string unions in the domain,
 * numbers and bytes only on the wire. Nobody outside proto/ sees a generated message's insides.
 */
export * from './convert/data.ts';
export * from './convert/log.ts';
export * from './convert/objects.ts';
export * from './convert/recordBytes.ts';
export * from './convert/session.ts';
export * from './convert/specs/cluster.ts';
export * from './convert/specs/service.ts';
export * from './convert/values.ts';
