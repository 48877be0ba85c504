/** What to look at where a connection cannot be made, by the code of the system call. */
const ADVICE: Record<string, string> = {
  ECONNREFUSED: 'nothing listens there: is it on, are host and port right?',
  ENOTFOUND: 'there is no such name: is it spelled right, does the name server know it?',
  EAI_AGAIN: 'the name server does not answer',
  EHOSTUNREACH: 'no way leads there: is it on, is the network right?',
  ENETUNREACH: 'no way leads there: is the network up?',
  ETIMEDOUT: 'it does not answer: is it on, does a firewall keep us out?',
};

/** The words of an error of a connection, with advice where the code is known. */
export function withAdvice(error: Error, words: string = error.message): string {
  const advice = ADVICE[(error as NodeJS.ErrnoException).code ?? ''];
  return advice === undefined ? words : `${words}: ${advice}`;
}
