/** Names of iSCSI initiators and targets: `iqn.`, `eui.`, `naa.` (RFC 7143 section 4.2.7, RFC 3722 for letters). */

/** RFC 7143 section 4.2.7.1. */
const MAX_BYTES = 223;
const IQN = /^iqn\.(\d{4})-(\d{2})\.([^:]+)(?::(.*))?$/s;
const LABEL = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;
/** The first authority that names were given under. */
const FIRST_YEAR = 1971;

export interface IscsiName {
  form: 'iqn' | 'eui' | 'naa';
  /** As it is to be written: lower case. */
  name: string;
  /** Of an iqn: who owned the domain, and since when. */
  authority: string | null;
}

/** What is wrong with it, in words that say what was expected; a name that is right is given back. */
export function checkIscsiName(text: string): IscsiName | { fault: string } {
  const name = text.toLowerCase();
  if (Buffer.byteLength(name) > MAX_BYTES) return { fault: `it is longer than ${MAX_BYTES} bytes` };
  if (/[\s\p{Cc}]/u.test(name)) return { fault: 'it holds blanks or control characters' };
  if (name.startsWith('iqn.')) return checkIqn(name);
  if (name.startsWith('eui.')) {
    if (/^eui\.[0-9a-f]{16}$/.test(name)) return { form: 'eui', name, authority: null };
    return { fault: 'expected eui. and 16 hexadecimal digits' };
  }
  if (name.startsWith('naa.')) {
    if (/^naa\.(?:[0-9a-f]{16}|[0-9a-f]{32})$/.test(name)) return { form: 'naa', name, authority: null };
    return { fault: 'expected naa. and 16 or 32 hexadecimal digits' };
  }
  return { fault: 'expected a name that begins with iqn., eui. or naa.' };
}

function checkIqn(name: string): IscsiName | { fault: string } {
  const [, year, month, domain, own] = IQN.exec(name) ?? [];
  if (year === undefined || month === undefined || domain === undefined)
    return {
      fault:
        'expected iqn.YYYY-MM.DOMAIN:NAME, the domain written from its end: iqn.2001-04.com.example:disk1',
    };
  if (Number(month) < 1 || Number(month) > 12 || Number(year) < FIRST_YEAR)
    return { fault: `${year}-${month} is no month: expected that in which the domain was registered` };
  const labels = domain.split('.');
  const wrong = labels.find((label) => !LABEL.test(label));
  if (wrong !== undefined)
    return {
      fault: `${JSON.stringify(wrong)} in ${domain} is no part of a domain: letters, digits and dashes`,
    };
  if (own === '') return { fault: 'nothing stands behind the colon' };
  if (own !== undefined && /[^\p{L}\p{N}.:-]/u.test(own))
    return {
      fault: `${JSON.stringify(own)} holds other characters than letters, digits, dots, colons and dashes`,
    };
  return { form: 'iqn', name, authority: `${labels.reverse().join('.')} since ${year}-${month}` };
}
