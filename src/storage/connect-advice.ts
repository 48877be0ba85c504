/** What to look at where a connection cannot be made, by the code of the system call. */
const ADVICE: Record<string, string> = {
  ECONNREFUSED: 'nothing listens there, check host and port',
  ENOTFOUND: 'there is no such name, check its spelling and the name server',
  EAI_AGAIN: 'the name server does not answer',
  EHOSTUNREACH: 'no way leads there, check that it is on',
  ENETUNREACH: 'no way leads there, check the network',
  ETIMEDOUT: 'it does not answer, check that it is on and that no firewall is between',
};

/** The words of an error of a connection, with advice where the code is known. */
export function withAdvice(error: Error, words: string = error.message): string {
  const advice = ADVICE[(error as NodeJS.ErrnoException).code ?? ''];
  return advice === undefined ? words : `${words}: ${advice}`;
}
