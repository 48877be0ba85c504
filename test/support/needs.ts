/** What a test needs of the machine. A lack is said aloud, and under CI=true it is a failure: nothing is left out in silence. */
export function needs(isThere: boolean, what: string): boolean {
  if (isThere) return true;
  if (process.env.CI === 'true') throw new Error(`this machine lacks ${what}, which the tests need`);
  process.stderr.write(`tests are left out: this machine lacks ${what}\n`);
  return false;
}
