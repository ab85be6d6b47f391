// A certified OpenID Provider on loopback, for tests and the demo. It is spoken to by lines of JSON on standard input,
// each answered by one on standard output:
//   {"do": "start", "port": 0, "clients": [...], "accounts": {"ann": {"email": …}}}   → {"issuer": …}
//   {"do": "rotate"}                   publishes another key, signs with it, and forgets the one before
//   {"do": "clock", "ahead": seconds}  sets its clock
//   {"do": "account", "login": …, "claims": {…}}   says something else of somebody
//   {"do": "close"}                    stops listening
// It ends when its input does.
import { createServer } from 'node:http';
import { generateKeyPairSync, randomBytes, randomUUID } from 'node:crypto';
import { createInterface } from 'node:readline';
import Provider from 'oidc-provider';

const accounts = new Map();
const realNow = Date.now;
let listener;
let provider;
let wanted;

function signingKey() {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  return { ...privateKey.export({ format: 'jwk' }), kid: randomUUID(), use: 'sig', alg: 'RS256' };
}

function makeProvider(issuer, keys) {
  const made = new Provider(issuer, {
    clients: wanted.clients.map((client) => ({
      grant_types: ['authorization_code'],
      response_types: ['code'],
      application_type: 'native',
      ...client,
    })),
    jwks: { keys },
    cookies: { keys: [randomBytes(32).toString('hex')] },
    claims: {
      openid: ['sub'],
      email: ['email', 'email_verified'],
      profile: ['name'],
      groups: ['groups'],
    },
    conformIdTokenClaims: wanted.conform ?? true,
    pkce: { required: () => true },
    ttl: { Session: 3600, Grant: 3600, Interaction: 3600, AccessToken: 600, IdToken: wanted.idTokenSeconds ?? 600 },
    findAccount: (_, login) => ({
      accountId: login,
      claims: () => ({ sub: login, ...accounts.get(login) }),
    }),
  });
  made.on('server_error', (_, error) => console.error(error));
  return made;
}

const commands = {
  start(command) {
    wanted = command;
    for (const [login, claims] of Object.entries(command.accounts ?? {})) accounts.set(login, claims);
    return new Promise((resolve) => {
      listener = createServer((request, response) => provider.callback()(request, response));
      listener.listen(command.port ?? 0, '127.0.0.1', () => {
        const issuer = `http://127.0.0.1:${listener.address().port}`;
        provider = makeProvider(issuer, [signingKey()]);
        resolve({ issuer });
      });
    });
  },
  rotate() {
    provider = makeProvider(provider.issuer, [signingKey()]);
    return {};
  },
  close() {
    listener.closeAllConnections();
    return new Promise((resolve) => listener.close(() => resolve({})));
  },
  clock({ ahead }) {
    Date.now = () => realNow() + ahead * 1000;
    return {};
  },
  account({ login, claims }) {
    accounts.set(login, claims);
    return {};
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  console.log(JSON.stringify(await commands[command.do](command)));
}
process.exit(0);
