/** Many rows as one: SQLite aggregates each column to a JSON array, several times faster than row by row. */

/** One row of JSON arrays, a column each. */
export function columnsOf<T>(row: unknown): T {
  const columns = Object.entries(row as Record<string, string>);
  return Object.fromEntries(columns.map(([name, text]) => [name, JSON.parse(text)])) as T;
}
