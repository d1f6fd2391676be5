/** Of the OCI runtime specification: the newest that is understood. */
export const SPEC_VERSION = '1.3.0';
