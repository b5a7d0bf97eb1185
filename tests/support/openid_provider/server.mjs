// A real OpenID provider (npm `oidc-provider`, OpenID certified) for tests, on the loopback interface.
//
//   node server.mjs ISSUER PORT
//
// What it is to be is sent as JSON to POST /_control: clients, accounts (login to claims), resources, and `lie`, the
// name of a way in which its next answers are to be wrong. `rotate` gives it new keys. Sessions and codes are kept.

import crypto from 'node:crypto';
import http from 'node:http';
import { SignJWT, exportJWK, generateKeyPair, importJWK } from 'jose';
import Provider from 'oidc-provider';

const [issuer, port] = process.argv.slice(2);
const cookieKeys = [crypto.randomBytes(32).toString('hex')];
const state = { clients: [], accounts: {}, audience: undefined, actor: undefined, lie: undefined, offline: false };
let jwks;
let handler;
const asked = {};

async function newKeys() {
  const { privateKey } = await generateKeyPair('RS256', { extractable: true, modulusLength: 2048 });
  const jwk = await exportJWK(privateKey);
  jwks = { keys: [{ ...jwk, kid: crypto.randomUUID(), alg: 'RS256', use: 'sig' }] };
}

function build() {
  const provider = new Provider(issuer, {
    clients: state.clients,
    jwks,
    cookies: { keys: cookieKeys },
    claims: {
      openid: ['sub'],
      email: ['email', 'email_verified'],
      profile: ['name', 'preferred_username', 'groups'],
    },
    conformIdTokenClaims: state.idTokenClaims !== true,
    pkce: { required: () => true },
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: (ctx, client, oneOf) => oneOf ?? (state.audience && ctx.oidc.route === 'token' ? state.audience : undefined),
        useGrantedResource: () => true,
        getResourceServerInfo: (ctx, resource) => ({
          scope: 'project:read project:write project:create',
          audience: resource,
          accessTokenTTL: state.tokenLifetime ?? 600,
          accessTokenFormat: 'jwt',
          jwt: { sign: { alg: 'RS256' } },
        }),
      },
    },
    extraTokenClaims: () => (state.actor ? { act: state.actor } : undefined),
    findAccount: (ctx, id) => ({ accountId: id, claims: () => ({ sub: id, ...state.accounts[id] }) }),
    interactions: { url: (ctx, interaction) => `/interaction/${interaction.uid}` },
    ttl: { IdToken: 300, Interaction: 600, Session: 3600, Grant: 3600, AuthorizationCode: 60, AccessToken: 300 },
  });
  provider.on('server_error', (ctx, error) => console.error(error));
  provider.use(async (ctx, next) => {
    await next();
    const route = ctx.oidc?.route;
    if (route) asked[route] = (asked[route] ?? 0) + 1;
    if (route === 'token' && ctx.body?.id_token) ctx.body.id_token = await lied(ctx.body.id_token);
    if (route === 'jwks' && state.lie === 'huge-key-set') ctx.body = { keys: Array(4000).fill(jwks.keys[0]) };
    if (route === 'jwks' && state.lie === 'no-key-set') ctx.body = 'gone';
    if (route === 'discovery' && state.lie === 'other-issuer') ctx.body = { ...ctx.body, issuer: `${issuer}/other` };
    if (route === 'discovery' && state.lie === 'internal-token-endpoint') ctx.body = { ...ctx.body, token_endpoint: state.elsewhere };
    if (route === 'userinfo' && state.lie === 'userinfo-of-another') ctx.body = { ...ctx.body, sub: 'somebody-else' };
  });
  handler = provider.callback();
  handler.provider = provider;
}

async function lied(token) {
  const [head, body] = token.split('.').slice(0, 2).map((part) => JSON.parse(Buffer.from(part, 'base64url')));
  const key = await importJWK(jwks.keys[0], 'RS256');
  const signed = (claims, header = head) => new SignJWT(claims).setProtectedHeader(header).sign(key);
  const encoded = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const now = Math.floor(Date.now() / 1000);
  switch (state.lie) {
    case 'nonce': return signed({ ...body, nonce: 'another' });
    case 'no-nonce': return signed({ ...body, nonce: undefined });
    case 'issuer': return signed({ ...body, iss: 'https://elsewhere.example' });
    case 'audience': return signed({ ...body, aud: 'another-client' });
    case 'audiences-without-azp': return signed({ ...body, aud: [body.aud, 'another-client'] });
    case 'azp': return signed({ ...body, azp: 'another-client' });
    case 'expired': return signed({ ...body, iat: now - 600, exp: now - 300 });
    case 'old': return signed({ ...body, iat: now - 3600, exp: now + 3600 });
    case 'future': return signed({ ...body, iat: now + 600, exp: now + 900 });
    case 'no-auth-time': return signed({ ...body, auth_time: undefined });
    case 'none': return `${encoded({ alg: 'none' })}.${encoded(body)}.`;
    case 'hs256': {
      const publicJwk = { kty: 'RSA', n: jwks.keys[0].n, e: jwks.keys[0].e };
      const spki = crypto.createPublicKey({ key: publicJwk, format: 'jwk' }).export({ type: 'spki', format: 'pem' });
      const input = `${encoded({ alg: 'HS256', kid: head.kid })}.${encoded(body)}`;
      return `${input}.${crypto.createHmac('sha256', spki).update(input).digest('base64url')}`;
    }
    case 'unknown-key': return signed(body, { ...head, kid: 'nobody-knows' });
    case 'other-key': {
      const { privateKey } = await generateKeyPair('RS256');
      return new SignJWT(body).setProtectedHeader(head).sign(privateKey);
    }
    default: return token;
  }
}

async function readBody(req) {
  const parts = [];
  for await (const part of req) parts.push(part);
  return Buffer.concat(parts).toString();
}

function page(res, status, text, type = 'text/html') {
  res.writeHead(status, { 'content-type': type });
  res.end(text);
}

async function control(req, res) {
  const { rotate, ...wanted } = JSON.parse(await readBody(req));
  if ('lie' in wanted) wanted.lie = wanted.lie ?? undefined;
  Object.assign(state, wanted);
  if (rotate) await newKeys();
  build();
  page(res, 200, JSON.stringify({ asked, kid: jwks.keys[0].kid }), 'application/json');
}

// The login and the consent of a person, as one form.
async function interact(req, res) {
  const { provider } = handler;
  const details = await provider.interactionDetails(req, res);
  if (req.method === 'GET') {
    return page(res, 200, '<form method="post"><input name="login"><button>Sign in</button></form>');
  }
  const form = new URLSearchParams(await readBody(req));
  if (form.get('deny')) {
    return provider.interactionFinished(req, res, { error: 'access_denied', error_description: 'no' });
  }
  const accountId = form.get('login');
  const grant = new provider.Grant({ accountId, clientId: details.params.client_id });
  grant.addOIDCScope('openid profile email');
  const grantId = await grant.save();
  return provider.interactionFinished(req, res, { login: { accountId }, consent: { grantId } });
}

await newKeys();
build();
http.createServer((req, res) => {
  const run = async () => {
    if (req.url === '/_control') return control(req, res);
    if (state.offline) return req.socket.destroy();
    if (state.redirect && req.url.startsWith('/.well-known')) {
      res.writeHead(302, { location: state.redirect });
      return res.end();
    }
    if (req.url.startsWith('/interaction/')) return interact(req, res);
    return handler(req, res);
  };
  run().catch((error) => { console.error(error); page(res, 500, 'error'); });
}).listen(Number(port), '127.0.0.1', () => console.log('listening'));
