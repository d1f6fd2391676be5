/** Names of kernel settings: which file each is, and which an IPC namespace has of its own. */

export const IPC_SYSCTL =
  /^(kernel\.(msgmax|msgmnb|msgmni|sem|shmall|shmmax|shmmni|shm_rmid_forced)|fs\.mqueue\..+)$/;

/** 'net.ipv4.ip_forward' -> 'sys/net/ipv4/ip_forward'; with slashes, dots are part of names. */
export function sysctlPath(name: string): string {
  const slash = name.indexOf('/');
  const dot = name.indexOf('.');
  const usesSlashes = slash >= 0 && (dot < 0 || slash < dot);
  if (usesSlashes) return `sys/${name}`;
  return `sys/${name.replace(/[./]/g, (letter) => (letter === '.' ? '/' : '.'))}`;
}
