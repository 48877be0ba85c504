/** A home of its own for one test: PHD_HOME in a temporary folder, removed at the end. */
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

export interface TempHome {
  /** PHD_HOME itself. */
  root: string;
  /** Environment of the process with PHD_HOME set. */
  env: NodeJS.ProcessEnv;
  /** Writes phd.yaml; lines as given. */
  writeConfig(text: string): void;
  /** Writes a file (0600 unless `mode` says otherwise) under the home, making folders; returns its path. */
  write(name: string, content: string | Uint8Array, mode?: number): string;
  /** Makes a folder under the home; returns its path. */
  folder(name: string): string;
  remove(): void;
}

export function makeTempHome(): TempHome {
  const root = mkdtempSync(path.join(tmpdir(), 'phd-test-'));
  const home: TempHome = {
    root,
    env: { ...process.env, PHD_HOME: root },
    writeConfig: (text) => void home.write('phd.yaml', text),
    write(name, content, mode = 0o600) {
      const file = path.join(root, name);
      mkdirSync(path.dirname(file), { recursive: true });
      writeFileSync(file, content);
      chmodSync(file, mode);
      return file;
    },
    folder(name) {
      const folder = path.join(root, name);
      mkdirSync(folder, { recursive: true });
      return folder;
    },
    remove: () => rmSync(root, { recursive: true, force: true }),
  };
  return home;
}
