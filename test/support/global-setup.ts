/** vitest globalSetup: fetches once all outside programs the tests run against, and names what cannot be had. */
import { missingPeers } from './peers.ts';

export default async function setup(): Promise<void> {
  const missing = await missingPeers();
  if (missing.length === 0) return;
  const list = missing.map(({ name, reason }) => `  ${name}: ${reason}`).join('\n');
  const text = `outside programs that cannot be had:\n${list}`;
  if (process.env.CI === 'true') throw new Error(text);
  process.stderr.write(`${text}\ntests that need them will fail\n`);
}
