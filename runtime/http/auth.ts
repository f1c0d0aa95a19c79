/**
 * Tokens: who a caller is.
 *
 * Owns the keys and a small memory of tokens that were verified. The checks themselves are jose's. Talks to the issuer,
 * where its keys are published.
 *
 * Invariants:
 * 1. An algorithm is accepted only if it fits the kind of key: a public key never verifies as a shared secret.
 * 2. A token without an end (`exp`) is refused. A verified one is believed without another look for a minute at most,
 *    and never past its end.
 * 3. What is wrong with a token is said in general words; an issuer that cannot be reached is no fault of the caller's.
 */
import {
  createLocalJWKSet,
  createRemoteJWKSet,
  errors,
  jwtVerify,
  type JWTPayload,
  type JWTVerifyGetKey,
  type JWTVerifyOptions,
} from "jose";
import { type AuthOptions, wrong } from "./options.ts";
import { Refusal } from "./problem.ts";

/** Who calls. */
export interface Caller {
  readonly subject: string | undefined;
  readonly claims: JWTPayload;
  /** When the token ends, milliseconds since the epoch. */
  readonly until_ms: number;
  /** What limits are counted by. */
  readonly name: string;
}

const SHARED = ["HS256", "HS384", "HS512"];
const PUBLIC = [
  "RS256",
  "RS384",
  "RS512",
  "PS256",
  "PS384",
  "PS512",
  "ES256",
  "ES384",
  "ES512",
  "EdDSA",
  "Ed25519",
];
const SECRET_BYTES = 32;
const TOLERANCE_S = 5;
const TOKEN_LENGTH = 8_192;
const KEPT = 1_024;
const KEPT_MS = 60_000;

interface Kept {
  readonly claims: JWTPayload;
  readonly until_ms: number;
}

export class Tokens {
  readonly #verify: (token: string) => Promise<JWTPayload>;
  readonly #tolerance_ms: number;
  readonly #kept = new Map<string, Kept>();

  /** @throws KeyturnError `invalid_options` */
  constructor(options: AuthOptions) {
    const { jwks, secret, issuer, audience, clockTolerance_s = TOLERANCE_S } = options;
    if ((jwks === undefined) === (secret === undefined))
      throw wrong(
        "Tokens are checked with the issuer's keys or with a secret: auth: { jwks } or { secret }.",
      );
    const allowed = secret === undefined ? PUBLIC : SHARED;
    const algorithms = options.algorithms ?? allowed;
    if (algorithms.length === 0 || !algorithms.every((one) => allowed.includes(one)))
      throw wrong(`The algorithms that fit these keys are ${allowed.join(", ")}.`);
    this.#tolerance_ms = clockTolerance_s * 1_000;
    const checks: JWTVerifyOptions = {
      algorithms: [...algorithms],
      requiredClaims: ["exp"],
      clockTolerance: clockTolerance_s,
      ...(issuer === undefined ? {} : { issuer: typeof issuer === "string" ? issuer : [...issuer] }),
      ...(audience === undefined
        ? {}
        : { audience: typeof audience === "string" ? audience : [...audience] }),
    };
    if (secret === undefined) {
      const keys = keysOf(jwks as NonNullable<AuthOptions["jwks"]>);
      this.#verify = async (token) => (await jwtVerify(token, keys, checks)).payload;
    } else {
      const bytes = typeof secret === "string" ? new TextEncoder().encode(secret) : secret;
      if (!(bytes.length >= SECRET_BYTES)) throw wrong(`A secret has ${SECRET_BYTES} bytes at least.`);
      this.#verify = async (token) => (await jwtVerify(token, bytes, checks)).payload;
    }
  }

  /**
   * Who a request is from.
   * @param header its `Authorization`
   * @throws Refusal 401, or 503 if the issuer's keys cannot be had
   */
  async callerOf(header: string | undefined): Promise<Caller> {
    const [, token] = /^Bearer +([A-Za-z0-9._~+/-]+=*)$/i.exec(header ?? "") ?? [];
    if (token === undefined) throw refused("A token is needed: Authorization: Bearer <token>.", "");
    if (token.length > TOKEN_LENGTH) throw refused("The token is too long.", ', error="invalid_token"');
    const claims = await this.#claimsOf(token);
    if (claims.sub !== undefined && (typeof claims.sub !== "string" || claims.sub.length > 512))
      throw refused("The token's subject is no name.", ', error="invalid_token"');
    const until_ms = (claims.exp as number) * 1_000;
    return { subject: claims.sub, claims, until_ms, name: `subject ${claims.sub ?? ""}` };
  }

  async #claimsOf(token: string): Promise<JWTPayload> {
    const now_ms = Date.now();
    const kept = this.#kept.get(token);
    if (kept !== undefined && now_ms < kept.until_ms) return kept.claims;
    this.#kept.delete(token);
    const claims = await this.#verify(token).catch((error: unknown) => {
      throw refusalOf(error);
    });
    const end_ms = (claims.exp as number) * 1_000 + this.#tolerance_ms;
    for (const [oldest] of this.#kept) {
      if (this.#kept.size < KEPT) break;
      this.#kept.delete(oldest);
    }
    this.#kept.set(token, { claims, until_ms: Math.min(end_ms, now_ms + KEPT_MS) });
    return claims;
  }
}

/**
 * Where a browser's `EventSource`, which sends no headers of its page's choice, puts its token: RFC 6750, 2.3. Addresses
 * end up in histories and logs, so only streams take it there, and nothing here writes an address anywhere.
 */
export const TOKEN_PARAMETER = "access_token";

/**
 * The token in a request's address, in the form of the header.
 * @throws Refusal 400 if it is given more than once, RFC 6750, 2
 */
export function tokenInAddress(url: string | undefined, header: string | undefined): string | undefined {
  const at = url?.indexOf("?") ?? -1;
  if (url === undefined || at < 0) return header;
  const tokens = new URLSearchParams(url.slice(at + 1)).getAll(TOKEN_PARAMETER);
  if (tokens.length === 0) return header;
  if (tokens.length > 1 || header !== undefined)
    throw new Refusal(400, "invalid_options", "The token is given once: as a header, or in the address.");
  return `Bearer ${tokens[0]}`;
}

function keysOf(jwks: NonNullable<AuthOptions["jwks"]>): JWTVerifyGetKey {
  if (typeof jwks === "object" && !(jwks instanceof URL)) return createLocalJWKSet(jwks);
  let url: URL;
  try {
    url = new URL(jwks);
  } catch {
    throw wrong(`"${String(jwks)}" is no address of keys: https://issuer.example/.well-known/jwks.json.`);
  }
  return createRemoteJWKSet(url);
}

function refusalOf(error: unknown): Refusal {
  if (error instanceof errors.JWTExpired) return refused("The token has expired.", ', error="invalid_token"');
  const issuers =
    !(error instanceof errors.JOSEError) ||
    error instanceof errors.JWKSTimeout ||
    error.code === "ERR_JOSE_GENERIC" ||
    error instanceof errors.JWKSInvalid;
  if (issuers && !(error instanceof TypeError && /key/i.test(error.message))) {
    const text = "The issuer's keys cannot be had, so tokens cannot be checked. Try again later.";
    return new Refusal(503, "unreachable", text, { "retry-after": "5" });
  }
  return refused("The token is not valid here.", ', error="invalid_token"');
}

function refused(text: string, more: string): Refusal {
  return new Refusal(401, "access_denied", text, { "www-authenticate": `Bearer realm="keyturn"${more}` });
}
