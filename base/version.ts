/** The version this tree builds, as `tsswarm version` and the API tell it; package.json's. */
export const VERSION = '0.1.0';
