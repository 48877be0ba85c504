/** iSCSI names, right ones and what is said of wrong ones. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { checkIscsiName } from '../../src/hosts/iscsi-name.ts';

describe('An iSCSI name', () => {
  it.each([
    ['iqn.2001-04.com.example:storage:diskarrays-sn-a8675309', 'iqn', 'example.com since 2001-04'],
    ['iqn.2001-04.com.example', 'iqn', 'example.com since 2001-04'],
    ['IQN.1998-01.com.VMware:esx01-5a3b', 'iqn', 'vmware.com since 1998-01'],
    ['iqn.1998-01.com.vmware:bücher-1', 'iqn', 'vmware.com since 1998-01'],
    ['eui.02004567A425678D', 'eui', null],
    ['naa.52004567BA64678D', 'naa', null],
    ['naa.62004567BA64678D0123456789ABCDEF', 'naa', null],
  ])('%s is right', (text, form, authority) => {
    expect(checkIscsiName(text)).toEqual({ form, name: text.toLowerCase(), authority });
  });

  it.each([
    ['iqn.2001-13.com.example:x', /no month/],
    ['iqn.1066-10.com.example:x', /no month/],
    ['iqn.01-04.com.example:x', /expected iqn\.YYYY-MM/],
    ['iqn.2001-04.-com.example:x', /"-com" in .* is no part of a domain/],
    ['iqn.2001-04.com..example:x', /"" in/],
    ['iqn.2001-04.com.example:', /nothing stands behind the colon/],
    ['iqn.2001-04.com.example:a_b', /other characters/],
    ['iqn.2001-04.com.example:a b', /blanks or control/],
    [`iqn.2001-04.com.example:${'x'.repeat(220)}`, /longer than 223/],
    ['eui.02004567A425678', /16 hexadecimal digits/],
    ['naa.52004567BA64678D0', /16 or 32/],
    ['esx01', /begins with iqn/],
  ])('%s is wrong, and it is said why', (text, why) => {
    expect(checkIscsiName(text)).toEqual({ fault: expect.stringMatching(why) });
  });

  it('of any text is judged, and one that is right stays so', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), (text) => {
        const found = checkIscsiName(`iqn.2001-04.com.example:${text}`);
        if (!('fault' in found)) expect(checkIscsiName(found.name)).toEqual(found);
      }),
    );
  });
});
