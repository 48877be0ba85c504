/** Hosts of phd.yaml, as the command line and the console change them. */
import { YAMLMap, YAMLSeq } from 'yaml';
import { editConfig } from '../config/edit-config.ts';
import { configFileOf } from '../config/load-config.ts';
import { noSuchHost } from '../config/named-host.ts';
import { PhdError } from '../errors.ts';
import type { Places } from '../model/config.ts';
import type { SettingsChange } from './configuration.ts';

/** Adds a host. Throws EXISTS if its name is taken, CONFIG_INVALID. */
export async function addHost(places: Places, host: SettingsChange & { name: string }): Promise<void> {
  await editConfig(configFileOf(places), (document) => {
    const node = document.get('hosts');
    if (hostNode(node, host.name) !== undefined)
      throw new PhdError('EXISTS', `host ${host.name} is there already: use phd host edit`);
    const settings = Object.fromEntries(Object.entries(host).filter(([, value]) => value !== null));
    if (node instanceof YAMLSeq) node.add(document.createNode(settings));
    else document.set('hosts', document.createNode([settings]));
  });
}

/** Changes settings of a host; null removes one. Throws USAGE (no such host), CONFIG_INVALID. */
export async function editHost(places: Places, name: string, change: SettingsChange): Promise<void> {
  const file = configFileOf(places);
  await editConfig(file, (document) => {
    const node = hostNode(document.get('hosts'), name) ?? noHost(document.get('hosts'), name, file);
    for (const [key, value] of Object.entries(change)) {
      if (value === null) node.delete(key);
      else node.set(key, document.createNode(value));
    }
  });
}

/** Takes a host out of the configuration; its archives, and what lies on it, stay. Throws USAGE (no such host). */
export async function forgetHost(places: Places, name: string): Promise<void> {
  const file = configFileOf(places);
  await editConfig(file, (document) => {
    const hosts = document.get('hosts');
    const node = hostNode(hosts, name) ?? noHost(hosts, name, file);
    if (hosts instanceof YAMLSeq) hosts.delete(hosts.items.indexOf(node));
  });
}

function hostNode(hosts: unknown, name: string): YAMLMap | undefined {
  if (!(hosts instanceof YAMLSeq)) return undefined;
  return hosts.items.find((item): item is YAMLMap => item instanceof YAMLMap && item.get('name') === name);
}

function noHost(hosts: unknown, name: string, file: string): never {
  const nodes = hosts instanceof YAMLSeq ? hosts.items.filter((item) => item instanceof YAMLMap) : [];
  throw noSuchHost(
    file,
    nodes.map((node) => String(node.get('name'))),
    name,
  );
}
