/** What to do about the codes that backups and restores meet, by name without `VMK_`. */

const NOBODY_ELSE =
  'find who has it open (vmfsfilelockinfo -p FILE names the owner): a running VM, a backup proxy, another host';
const AGAIN = 'wait and try again';
const FREE_ROOM = 'free room on the volume, or take another one';
const LOOK_AT_STORAGE = 'look at paths and storage of the host: phd host storage HOST';
const SNAPSHOT_LUN =
  'if the copy is wanted, mount it with a new signature: esxcli storage vmfs snapshot resignature -l VOLUME';
const FEWER_HOLDERS = 'fewer hosts or backup proxies may use the disk at once';

export const VMKERNEL_ADVICE: ReadonlyMap<string, string> = new Map([
  ['NOT_FOUND', 'look whether the VM was moved, renamed or removed'],
  ['BUSY', NOBODY_ELSE],
  ['EXISTS', 'take another name, or remove what is there'],
  [
    'LIMIT_EXCEEDED',
    'the file is larger than the volume allows: VMFS3 with blocks of 1, 2, 4, 8 MB holds 256, 512, 1024, 2048 GB',
  ],
  ['METADATA_READ_ERROR', LOOK_AT_STORAGE],
  ['METADATA_WRITE_ERROR', LOOK_AT_STORAGE],
  ['IO_ERROR', LOOK_AT_STORAGE],
  ['READ_ERROR', LOOK_AT_STORAGE],
  ['WRITE_ERROR', LOOK_AT_STORAGE],
  ['CORRUPT_REDOLOG', 'the snapshot cannot be read: restore the VM from a backup'],
  ['TIMEOUT', LOOK_AT_STORAGE],
  ['TIMEOUT_RETRY', AGAIN],
  ['READ_ONLY', 'the volume or file takes no writes: look how it is mounted'],
  ['RESERVATION_CONFLICT', `${AGAIN}; if it stays, another host or array keeps the LUN reserved`],
  ['RESERVATION_LOST', AGAIN],
  ['FS_LOCKED', NOBODY_ELSE],
  ['LOCK_NOT_FREE', NOBODY_ELSE],
  ['MISSING_FS_PES', 'a LUN of the volume is not presented to this host'],
  ['CHECKSUM_MISMATCH', 'what is stored has changed: do not trust the file, restore it from a backup'],
  ['WAIT_INTERRUPTED', AGAIN],
  ['NO_MEMORY', 'the host is short of memory: end something, or try again later'],
  ['NO_MEMORY_RETRY', AGAIN],
  ['NO_ACCESS', 'the user of the host may not do that: log in as one who may'],
  ['NO_PERMISSION', 'the user of the host may not do that: log in as one who may'],
  ['NOT_EMPTY', 'remove what lies in the folder, or take another one'],
  ['SNAPSHOT_DEV', SNAPSHOT_LUN],
  ['SNAPSHOT_DEV_DISALLOWED', SNAPSHOT_LUN],
  ['SNAPSHOT_LV_INCOMPLETE', 'present all LUNs of the volume to this host'],
  ['IN_TRANSITION', AGAIN],
  ['TXN_FULL', AGAIN],
  ['NUM_FILES_EXCEEDED', 'remove files from the volume'],
  ['FS_RETRY_OPERATION', AGAIN],
  ['STORAGE_RETRY_OPERATION', AGAIN],
  ['LVM_RETRY_OPERATION', AGAIN],
  ['MAX_RETRIES_EXCEEDED', `${AGAIN}; if it stays, ${LOOK_AT_STORAGE}`],
  ['NFS_CONNECT_FAILURE', 'look whether the NFS server is up and the network of the host leads there'],
  ['NFS_MOUNT_NOT_SUPPORTED', 'let the server offer NFS version 3 over TCP'],
  ['NFS_NFS_NOT_SUPPORTED', 'let the server offer NFS version 3 over TCP'],
  ['NFS_MOUNT_DENIED', 'look whether the export exists and names this host, with no_root_squash'],
  ['NFS_MOUNT_NOT_DIR', 'name the folder that the server exports'],
  ['NFS_BAD_FSINFO', 'look at the rights of the export: the host mounts as root'],
  ['NFS_VOLUME_LIMIT_EXCEEDED', 'unmount a volume, or raise the advanced setting NFS.MaxVolumes'],
  ['TOO_MANY_LOCK_HOLDERS', FEWER_HOLDERS],
  ['TOO_MANY_USERS', FEWER_HOLDERS],
  ['NO_FCNTL_LOCK', FEWER_HOLDERS],
  ['NO_FCNTL_LOCK_HOLDER', FEWER_HOLDERS],
  ['NO_SPACE', FREE_ROOM],
  ['NO_FREE_INODES', 'remove files: the volume has room but no more entries for them'],
  ['HBA_ERROR', LOOK_AT_STORAGE],
  ['LVM_DEVICE_UNREACHABLE', LOOK_AT_STORAGE],
  ['OPTLOCK_STOLEN', `another host took it over: ${AGAIN}`],
  ['INVALID_MULTIWRITER_OBJECT', 'a disk shared by writers must be thick: convert it with vmkfstools'],
  ['FS_STALE_METADATA', 'list the volumes anew: vmkfstools -V'],
  ['NO_LICENSE', 'the licence of the host lacks shared storage'],
  ['MAX_PATHS_CLAIMED', 'present fewer LUNs or paths to the host'],
  ['NOT_MOUNTABLE', 'the volume may be damaged or of another version: look at it with vmkfstools -P'],
  ['GENERIC_LINUX_ERROR', "look at the service console's log, /var/log/messages"],
]);
