// An OpenID provider for the tests: the npm package oidc-provider with its own forms, which accept
// any login name and any password. It listens on localhost, and it forgets everything at its end.
//
// node server.mjs [--claims-in-id-token]
//
// The first line of the output is its issuer. It exits when its standard input is closed, so it
// never outlives the tests. Tests control it by these requests:
//
// PUT /test/clients        add or replace a client; the body is its metadata
// PUT /test/accounts/NAME  set the claims of an account; the body has all of them but `sub`
// DELETE /test/accounts    give all accounts the claims of their names again
// POST /test/keys          replace the keys that sign ID tokens

import { generateKeyPairSync } from 'node:crypto';
import { createServer } from 'node:http';
import { json } from 'node:stream/consumers';
import { parseArgs } from 'node:util';

import { Provider } from 'oidc-provider';
// The package has no public way to replace keys. Its exact version is in package.json.
import initializeKeyStore from 'oidc-provider/lib/helpers/initialize_keystore.js';

const { values: options } = parseArgs({
  options: { 'claims-in-id-token': { type: 'boolean', default: false } },
});

const accounts = new Map();

function claimsOf(name) {
  return {
    email: `${name}@example.test`,
    email_verified: true,
    name,
    preferred_username: name,
    picture: `https://pictures.example.test/${encodeURIComponent(name)}.png`,
  };
}

function generateKeys() {
  const pairs = [
    generateKeyPairSync('rsa', { modulusLength: 2048 }),
    generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  ];
  return { keys: pairs.map(({ privateKey }) => privateKey.export({ format: 'jwk' })) };
}

function createProvider(issuer, port) {
  return new Provider(issuer, {
    jwks: generateKeys(),
    // Cookies of all ports of localhost share one jar.
    cookies: {
      keys: ['the tests sign cookies with this'],
      names: {
        interaction: `_interaction_${port}`,
        resume: `_interaction_resume_${port}`,
        session: `_session_${port}`,
      },
    },
    scopes: ['openid', 'email', 'profile'],
    claims: {
      openid: ['sub'],
      email: ['email', 'email_verified'],
      profile: ['name', 'preferred_username', 'picture', 'upn'],
    },
    conformIdTokenClaims: !options['claims-in-id-token'],
    enabledJWA: { idTokenSigningAlgValues: ['RS256', 'ES256', 'HS256'] },
    pkce: { required: () => true },
    findAccount: (ctx, name) => ({
      accountId: name,
      claims: () => ({ ...(accounts.get(name) ?? claimsOf(name)), sub: name }),
    }),
  });
}

async function control(provider, ctx, next) {
  const [, folder, resource, name] = ctx.path.split('/').map(decodeURIComponent);
  if (folder !== 'test') {
    await next();
    return;
  }
  ctx.status = 204;
  switch (`${ctx.method} ${resource}`) {
    case 'PUT clients': {
      const client = await json(ctx.req);
      await provider.Client.adapter.upsert(client.client_id, client);
      await provider.Client.find(client.client_id); // Throws if the metadata is invalid.
      break;
    }
    case 'PUT accounts':
      accounts.set(name, await json(ctx.req));
      break;
    case 'DELETE accounts':
      accounts.clear();
      break;
    case 'POST keys':
      initializeKeyStore.call(provider, generateKeys());
      break;
    default:
      ctx.status = 404;
  }
}

process.stdin.on('end', () => process.exit()).resume();
const server = createServer();
server.listen(0, '127.0.0.1', () => {
  const { port } = server.address();
  const issuer = `http://localhost:${port}`;
  const provider = createProvider(issuer, port);
  provider.on('server_error', (ctx, error) => console.error(error));
  provider.use((ctx, next) => control(provider, ctx, next));
  server.on('request', provider.callback());
  console.log(issuer);
});
