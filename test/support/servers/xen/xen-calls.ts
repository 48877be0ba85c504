/** Methods of XenAPI as the simulated pool answers them. */
import { randomUUID } from 'node:crypto';
import { CLASSES, NULL_REF, type XenClass, type XenDb, XenRefusal } from './xen-db.ts';

export interface CallState {
  db: XenDb;
  user: string;
  password: string;
  canQuiesce: boolean;
}

type Method = (state: CallState, params: unknown[]) => unknown;

/** Without the session, which is checked before. */
const METHODS: Record<string, Method> = {
  'session.logout': () => '',
  'VM.get_snapshots': ({ db }, [vm]) => db.get('VM', vm).snapshots,
  'VM.snapshot': ({ db }, [vm, name]) => db.snapshot(String(vm), String(name)),
  'VM.snapshot_with_quiesce': ({ db, canQuiesce }, [vm, name]) => {
    if (!canQuiesce) throw new XenRefusal('VM_SNAPSHOT_WITH_QUIESCE_NOT_SUPPORTED', String(vm));
    return db.snapshot(String(vm), String(name));
  },
  'VM.create': ({ db }, [words]) => db.createVm(words as Record<string, unknown>),
  'VM.destroy': ({ db }, [vm]) => db.destroyVm(String(vm)),
  'VM.set_name_label': ({ db }, [vm, name]) => {
    db.get('VM', vm).name_label = name;
  },
  'VM.set_is_a_template': ({ db }, [vm, value]) => {
    db.get('VM', vm).is_a_template = value;
  },
  'VM.add_to_other_config': ({ db }, [vm, key, value]) => {
    const config = db.get('VM', vm).other_config as Record<string, unknown>;
    if (String(key) in config)
      throw new XenRefusal('MAP_DUPLICATE_KEY', 'VM', 'other_config', String(vm), String(key));
    config[String(key)] = value;
  },
  'VM.remove_from_other_config': ({ db }, [vm, key]) => {
    delete (db.get('VM', vm).other_config as Record<string, unknown>)[String(key)];
  },
  'VDI.remove_from_other_config': ({ db }, [vdi, key]) => {
    delete (db.get('VDI', vdi).other_config as Record<string, unknown>)[String(key)];
  },
  'VDI.set_name_label': ({ db }, [vdi, name]) => {
    db.get('VDI', vdi).name_label = name;
  },
  'VBD.create': ({ db }, [words]) => {
    const { VM, VDI } = words as Record<string, unknown>;
    db.get('VM', VM);
    if (VDI !== NULL_REF) db.get('VDI', VDI);
    return db.createVbd(words as Record<string, unknown>);
  },
  'VDI.create': ({ db }, [words]) => db.createVdi(words as Record<string, unknown>),
  'VDI.destroy': ({ db }, [vdi]) => {
    if (db.isAttached(String(vdi))) throw new XenRefusal('VDI_IN_USE', String(vdi), 'destroy');
    db.destroyVdi(String(vdi));
  },
  'VIF.create': ({ db }, [words]) => {
    db.get('network', (words as Record<string, unknown>).network);
    return db.createVif(words as Record<string, unknown>);
  },
  'task.create': ({ db }, [name]) =>
    db.add('task', { name_label: name, status: 'pending', result: '', error_info: [] }),
  'task.cancel': ({ db }, [task]) => {
    db.get('task', task).status = 'cancelled';
  },
  'task.destroy': ({ db }, [task]) => {
    db.get('task', task);
    db.records.task.delete(String(task));
  },
};

/** Throws XenRefusal. */
export function answerCall(state: CallState, method: string, params: unknown[]): unknown {
  const { db } = state;
  if (method === 'session.login_with_password') {
    const [user, password] = params;
    if (user !== state.user || password !== state.password)
      throw new XenRefusal('SESSION_AUTHENTICATION_FAILED', String(user), 'Authentication failure');
    const session = `OpaqueRef:${randomUUID()}`;
    db.sessions.add(session);
    return session;
  }
  const [session, ...rest] = params;
  if (!db.sessions.has(String(session))) throw new XenRefusal('SESSION_INVALID', String(session));
  if (method === 'session.logout') db.sessions.delete(String(session));
  const known = METHODS[method];
  if (known !== undefined) return known(state, rest) ?? '';
  const [name = '', verb = ''] = method.split('.');
  const isClass = (CLASSES as readonly string[]).includes(name);
  const of = name as XenClass;
  if (isClass && verb === 'get_all_records') return Object.fromEntries(db.records[of]);
  if (isClass && verb === 'get_record') return db.get(of, rest[0]);
  if (isClass && verb === 'get_by_uuid') return db.byUuid(of, rest[0]);
  throw new XenRefusal('MESSAGE_METHOD_UNKNOWN', method);
}
