/** Settings of one target that hold whatever its transport: read only, limit of bandwidth, most connections. */
import type { TargetConfig } from '../../src/model/config.ts';
import type { Desk } from '../desk.ts';

const KILOBYTE = 1000;
const LEAST_KILOBYTES = 2;
const MOST_KILOBYTES = 100_000_000;
const MOST_CONNECTIONS = 32;

/** `which` is the id of an entry of the target's menu. Throws CONFIG_INVALID, IO. */
export async function changeTargetSetting(desk: Desk, target: TargetConfig, which: string): Promise<void> {
  if (which === 'read-only') await keep(desk, target.number, 'readOnly', !target.readOnly);
  if (which === 'bandwidth') await askBandwidth(desk, target);
  if (which === 'connections') await askConnections(desk, target);
}

async function askBandwidth(
  desk: Desk,
  { number, bandwidthLimitBytesPerSecond: now }: TargetConfig,
): Promise<void> {
  const typed = await desk.dialogue.ask({
    title: `Target ${number}`,
    question: 'KB a second at most, up and down each (empty: no limit)',
    preset: now === null ? '' : String(Math.round(now / KILOBYTE)),
    fault: (text) => wholeOrEmptyFault(text, LEAST_KILOBYTES, MOST_KILOBYTES),
  });
  if (typed === undefined) return;
  const limit = typed.trim() === '' ? null : Number(typed) * KILOBYTE;
  await keep(desk, number, 'bandwidthLimitBytesPerSecond', limit);
}

async function askConnections(desk: Desk, { number, maxConnections: now }: TargetConfig): Promise<void> {
  const typed = await desk.dialogue.ask({
    title: `Target ${number}`,
    lines: ['A server that takes no more answers 421; then the next one waits.'],
    question: `Connections at the same time, 1 to ${MOST_CONNECTIONS} (empty: as many as it takes)`,
    preset: now === null ? '' : String(now),
    fault: (text) => wholeOrEmptyFault(text, 1, MOST_CONNECTIONS),
  });
  if (typed === undefined) return;
  await keep(desk, number, 'maxConnections', typed.trim() === '' ? null : Number(typed));
}

function wholeOrEmptyFault(text: string, from: number, to: number): string | undefined {
  const typed = text.trim();
  const isGood = typed === '' || (/^\d{1,9}$/.test(typed) && Number(typed) >= from && Number(typed) <= to);
  return isGood ? undefined : `expected a whole number ${from} to ${to}, or nothing`;
}

async function keep(desk: Desk, number: number, key: string, value: number | boolean | null): Promise<void> {
  const { editTarget } = await import('../../src/engine/configuration.ts');
  await editTarget((await desk.queue()).places, number, { [key]: value });
  await desk.forgetContext();
  desk.dialogue.notice('Kept; jobs that start from now on go by it.');
}
