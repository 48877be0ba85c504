/** Where gpg begins to read an encrypted FULL. */
import { PASSPHRASE_PACKET_BYTES } from '../crypt/message.ts';

/** N of `tail -c +N FULL | gpg -d`: the byte, from 1, at which the FULL opens with the master passphrase. */
export const GPG_MASTER_OFFSET: number = PASSPHRASE_PACKET_BYTES + 1;
