/**
 * Configuration files of NAUbackup (VmBackup.py 3.x and its fork), read as they are, and the lists that they make of a
 * pool's VMs. Two rules differ from the old script on purpose: the order of the lines does not matter, and a name that is
 * in no list of the pool is named by its line.
 */
import { PhdError } from '../errors.ts';
import { type Selected, selectVms } from './select-vms.ts';
import { parseNauEntry, type VmPattern } from './vm-pattern.ts';

export interface NauSettings {
  poolDbBackup: boolean;
  /** Of each VM, where its entry does not say otherwise. */
  maxBackups: number;
  backupDir: string;
  statusLog: string;
  vdiExportFormat: 'raw' | 'vhd';
  compress: boolean;
  ignoreExtraKeys: boolean;
  preClean: boolean;
}

export interface NauConfig {
  settings: NauSettings;
  vmExport: VmPattern[];
  vdiExport: VmPattern[];
  metadataExport: VmPattern[];
  exclude: VmPattern[];
  /** What is wrong, a line each, with its number. */
  errors: string[];
}

/** VMs by how they are exported; one VM stands in one list only. */
export interface NauLists<Vm> {
  vmExport: Selected<Vm>[];
  vdiExport: Selected<Vm>[];
  metadataExport: Selected<Vm>[];
  excluded: { vm: Vm; by: string }[];
  errors: string[];
  warnings: string[];
}

const DEFAULTS: NauSettings = {
  poolDbBackup: false,
  maxBackups: 4,
  backupDir: '/snapshots/BACKUPS',
  statusLog: '/snapshots/NAUbackup/status.log',
  vdiExportFormat: 'raw',
  compress: false,
  ignoreExtraKeys: false,
  preClean: false,
};
const MAX_FILE_CHARACTERS = 4 * 1024 * 1024;

type ListKey = 'vm-export' | 'vdi-export' | 'metadata-export' | 'exclude';
const LISTS: Record<ListKey, 'vmExport' | 'vdiExport' | 'metadataExport' | 'exclude'> = {
  'vm-export': 'vmExport',
  'vdi-export': 'vdiExport',
  'metadata-export': 'metadataExport',
  exclude: 'exclude',
};

const SETTERS: Record<string, (settings: NauSettings, value: string) => void> = {
  pool_db_backup: (settings, value) => {
    settings.poolDbBackup = oneOf(value, { '0': false, '1': true });
  },
  max_backups: (settings, value) => {
    if (!/^\d{1,5}$/.test(value) || Number(value) < 1) throw new Error('expected a whole number, 1 or more');
    settings.maxBackups = Number(value);
  },
  backup_dir: (settings, value) => {
    settings.backupDir = absolute(value);
  },
  status_log: (settings, value) => {
    settings.statusLog = absolute(value);
  },
  vdi_export_format: (settings, value) => {
    settings.vdiExportFormat = oneOf(value, { raw: 'raw', vhd: 'vhd' } as const);
  },
  compress: (settings, value) => {
    settings.compress = oneOf(value, TRUTH);
  },
  ignore_extra_keys: (settings, value) => {
    settings.ignoreExtraKeys = oneOf(value, TRUTH);
  },
  pre_clean: (settings, value) => {
    settings.preClean = oneOf(value, TRUTH);
  },
};
/** A line may be all of a file that is none. */
const MAX_SHOWN = 200;
const shortened = (text: string): string =>
  text.length <= MAX_SHOWN ? text : `${text.slice(0, MAX_SHOWN)}...`;
const TRUTH = { True: true, False: false, true: true, false: false };

/** Reads a file, or one selector (`DEV-mySql`, `vdi-export=DEV.*`) with the script's defaults. Never throws. */
export function parseNau(text: string): NauConfig {
  const config: NauConfig = {
    settings: { ...DEFAULTS },
    vmExport: [],
    vdiExport: [],
    metadataExport: [],
    exclude: [],
    errors: [],
  };
  const unknown: string[] = [];
  text
    .slice(0, MAX_FILE_CHARACTERS)
    .split(/\r?\n/)
    .forEach((raw, at) => {
      const line = raw.trim();
      if (line === '' || line.startsWith('#')) return;
      const [, key = '', value = ''] = /^([\w-]+)\s*=\s*(.*)$/.exec(line) ?? [];
      try {
        if (Object.hasOwn(LISTS, key)) config[LISTS[key as ListKey]].push(parseNauEntry(value));
        else if (Object.hasOwn(SETTERS, key)) SETTERS[key]?.(config.settings, value);
        else
          unknown.push(
            `line ${at + 1}: ${key === '' ? `"${shortened(line)}" is no KEY=VALUE` : `${key} is no key`}`,
          );
      } catch (error) {
        config.errors.push(
          `line ${at + 1}: ${shortened(error instanceof PhdError ? error.message : `${key}: ${(error as Error).message}`)}`,
        );
      }
    });
  if (!config.settings.ignoreExtraKeys) config.errors.push(...unknown);
  return config;
}

/** A selector of the command line as a file that says the same. */
export function nauSelector(selector: string): string {
  return /^(vm-export|vdi-export|metadata-export)=/.test(selector) ? selector : `vm-export=${selector}`;
}

/** The lists that a run goes by: vdi over vm over metadata, then the excludes. */
export function nauLists<Vm extends { name: string }>(config: NauConfig, vms: readonly Vm[]): NauLists<Vm> {
  const taken = new Set<Vm>();
  const lists = { errors: [...config.errors], warnings: [] as string[], excluded: new Map<Vm, string>() };
  const listOf = (key: ListKey): Selected<Vm>[] => {
    const { selected, excluded, errors, warnings } = selectVms(vms, config[LISTS[key]], config.exclude);
    const own = (line: string): boolean => !line.startsWith('exclude ');
    lists.errors.push(...errors.filter(own).map((line) => `${key}=${line}`));
    lists.warnings.push(...warnings.filter(own).map((line) => `${key}=${line}`));
    for (const { vm, by } of excluded) lists.excluded.set(vm, by);
    return selected.filter(({ vm }) => {
      if (taken.has(vm)) return false;
      taken.add(vm);
      return true;
    });
  };
  const vdiExport = listOf('vdi-export');
  const vmExport = listOf('vm-export');
  const metadataExport = listOf('metadata-export');
  const excludes = selectVms(vms, config.exclude, []);
  lists.errors.push(...excludes.errors.map((line) => `exclude=${line}`));
  lists.warnings.push(...excludes.warnings.map((line) => `exclude=${line}`));
  return {
    vdiExport,
    vmExport,
    metadataExport,
    excluded: [...lists.excluded].map(([vm, by]) => ({ vm, by })),
    errors: lists.errors,
    warnings: lists.warnings,
  };
}

function oneOf<Value>(text: string, values: Record<string, Value>): Value {
  if (!Object.hasOwn(values, text)) throw new Error(`expected ${Object.keys(values).join(' or ')}`);
  return values[text] as Value;
}

function absolute(text: string): string {
  if (!text.startsWith('/')) throw new Error('expected a path from the root');
  return text;
}
