/** Times as FTP servers without MLSD show them: local to the server, in minutes, and in days once they are old. */

export interface ShownTime {
  /** As if the zone of the server were UTC. */
  ms: number;
  /** How much later or earlier the true time may be. */
  offByMs: number;
}

const MINUTE_MS = 60_000;
const DAY_MS = 24 * 60 * MINUTE_MS;
/** Zones lie up to 14 hours from UTC. */
const ZONE_MS = 15 * 60 * MINUTE_MS;
const MONTHS = ['jan', 'feb', 'mar', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'oct', 'nov', 'dec'];
const UNIX = /^([a-z]{3})\s+(\d{1,2})\s+(?:(\d{4})|(\d{1,2}):(\d\d))$/i;
const DOS = /^(\d\d)-(\d\d)-(\d{4}|\d\d)\s+(\d\d):(\d\d)\s*([ap]m)?$/i;

/**
 * What `Nov 25 10:22` (of the last twelve months), `Jun  1  2025` or `06-01-25 03:20PM` means; null for anything else.
 * Equal texts give equal times as long as they mean the same.
 */
export function readShownTime(text: string, nowMs: number): ShownTime | null {
  const [, name, day, year, hour, minute] = UNIX.exec(text) ?? [];
  if (name !== undefined) {
    const month = MONTHS.indexOf(name.toLowerCase());
    if (month < 0) return null;
    if (year !== undefined) return timeOf(Number(year), month, Number(day), 0, 0, DAY_MS + ZONE_MS);
    const at = (ofYear: number): ShownTime | null =>
      timeOf(ofYear, month, Number(day), Number(hour), Number(minute), ZONE_MS);
    const thisYear = new Date(nowMs).getUTCFullYear();
    return (
      [thisYear + 1, thisYear, thisYear - 1]
        .map(at)
        .find((one) => one !== null && one.ms <= nowMs + ZONE_MS) ?? null
    );
  }
  const [, dosMonth, dosDay, dosYear = '', dosHour, dosMinute, half] = DOS.exec(text) ?? [];
  if (dosMonth === undefined) return null;
  const ofDay = half === undefined ? Number(dosHour) : (Number(dosHour) % 12) + (/p/i.test(half) ? 12 : 0);
  const whole =
    dosYear.length === 2 ? Number(dosYear) + (Number(dosYear) < 80 ? 2000 : 1900) : Number(dosYear);
  return timeOf(whole, Number(dosMonth) - 1, Number(dosDay), ofDay, Number(dosMinute), ZONE_MS);
}

/** Null for a day or an hour that does not exist. */
function timeOf(
  year: number,
  month: number,
  day: number,
  hour: number,
  minute: number,
  offByMs: number,
): ShownTime | null {
  const time = new Date(Date.UTC(year, month, day, hour, minute));
  const isReal =
    time.getUTCMonth() === month &&
    time.getUTCDate() === day &&
    time.getUTCHours() === hour &&
    time.getUTCMinutes() === minute;
  return isReal ? { ms: time.getTime(), offByMs } : null;
}
