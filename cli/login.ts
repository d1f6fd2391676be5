/** login and logout: what registries are logged in to with, kept where docker keeps it. */
import { SwarmError } from '../base/errors.ts';
import { addCommand, type Command } from './command.ts';
import type { Context, Run } from './context.ts';
import { readHidden, readLine } from './prompt.ts';
import { type Credentials, HUB, keepCredentials } from './registryAuth.ts';

interface LoginFlags {
  readonly username?: string;
  readonly password?: string;
  readonly passwordStdin?: boolean;
}

export function registerLogin(program: Command, run: Run): void {
  addCommand(program, 'login [registry]', 'log in to a registry (default: Docker Hub)')
    .option('-u, --username <name>', 'user name')
    .option('-p, --password <password>', 'password; --password-stdin shows it to nobody')
    .option('--password-stdin', 'read the password from standard input')
    .action((registry: string | undefined, flags: LoginFlags) =>
      run((context) => login(context, registry ?? HUB, flags)),
    );
}

export function registerLogout(program: Command, run: Run): void {
  addCommand(program, 'logout [registry]', 'forget what a registry is logged in to with').action(
    (registry: string | undefined) =>
      run(async (context) => {
        const name = registry ?? HUB;
        const had = await keepCredentials(name, undefined);
        context.out.write(
          had ? `Removing login credentials for ${name}\n` : `Not logged in to ${name}\n`,
        );
      }),
  );
}

async function login(context: Context, serveraddress: string, flags: LoginFlags): Promise<void> {
  const username = flags.username ?? (await readLine(context, 'Username: '));
  if (username === '') throw new SwarmError('invalid', 'a user name is needed: --username NAME');
  if (flags.password !== undefined && flags.passwordStdin === true) {
    throw new SwarmError('invalid', '--password and --password-stdin exclude each other');
  }
  const password = flags.password ?? (await readHidden(context, 'Password: '));
  if (password === '') throw new SwarmError('invalid', 'a password is needed');
  const credentials: Credentials = { username, password, serveraddress };
  const answer = await context.client.post<{ Status: string; IdentityToken?: string }>(
    '/auth',
    credentials,
  );
  const token = answer.IdentityToken ?? '';
  await keepCredentials(serveraddress, {
    ...credentials,
    ...(token === '' ? {} : { identitytoken: token }),
  });
  context.out.write(`${answer.Status}\n`);
}
