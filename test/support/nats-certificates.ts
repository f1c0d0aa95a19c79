/**
 * Certificates for servers of one test: an authority of its own, and what it has signed.
 *
 * Owns nothing but the files that it writes. Nothing outside a test trusts them.
 */
import { generateKeyPairSync } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import forge from "node-forge";

export interface Certificates {
  /** Paths of PEM files. */
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

const DAY_MS = 86_400_000;

/** Writes an authority, and a certificate for 127.0.0.1 and localhost, for servers as well as for clients. */
export function writeCertificates(folder: string, name = "server"): Certificates {
  const authority = keyPair();
  const server = keyPair();
  const issuer = [{ name: "commonName", value: "Keyturn test authority" }];
  const ca = sign(authority.publicKey, authority.privateKey, issuer, issuer, [
    { name: "basicConstraints", cA: true, critical: true },
    { name: "keyUsage", keyCertSign: true, cRLSign: true, critical: true },
  ]);
  const subject = [{ name: "commonName", value: name }];
  const cert = sign(server.publicKey, authority.privateKey, subject, issuer, [
    { name: "basicConstraints", cA: false },
    { name: "keyUsage", digitalSignature: true, keyEncipherment: true, critical: true },
    { name: "extKeyUsage", serverAuth: true, clientAuth: true },
    // 7: an address, 2: a name.
    {
      name: "subjectAltName",
      altNames: [
        { type: 7, ip: "127.0.0.1" },
        { type: 2, value: "localhost" },
      ],
    },
  ]);
  const write = (file: string, text: string): string => {
    const path = join(folder, `${name}-${file}`);
    writeFileSync(path, text, { mode: 0o600 });
    return path;
  };
  return { ca: write("ca.crt", ca), cert: write("tls.crt", cert), key: write("tls.key", server.pem) };
}

interface KeyPair {
  readonly publicKey: forge.pki.rsa.PublicKey;
  readonly privateKey: forge.pki.rsa.PrivateKey;
  readonly pem: string;
}

/** Made by Node, which is quicker at it. */
function keyPair(): KeyPair {
  const pair = generateKeyPairSync("rsa", {
    modulusLength: 2048,
    publicKeyEncoding: { type: "spki", format: "pem" },
    privateKeyEncoding: { type: "pkcs1", format: "pem" },
  });
  return {
    publicKey: forge.pki.publicKeyFromPem(pair.publicKey),
    privateKey: forge.pki.privateKeyFromPem(pair.privateKey),
    pem: pair.privateKey,
  };
}

let serial = Date.now();

function sign(
  publicKey: forge.pki.rsa.PublicKey,
  signer: forge.pki.rsa.PrivateKey,
  subject: forge.pki.CertificateField[],
  issuer: forge.pki.CertificateField[],
  extensions: object[],
): string {
  const certificate = forge.pki.createCertificate();
  certificate.publicKey = publicKey;
  certificate.serialNumber = `01${(serial++).toString(16).padStart(14, "0")}`;
  certificate.validity.notBefore = new Date(Date.now() - DAY_MS);
  certificate.validity.notAfter = new Date(Date.now() + DAY_MS);
  certificate.setSubject(subject);
  certificate.setIssuer(issuer);
  certificate.setExtensions(extensions);
  certificate.sign(signer, forge.md.sha256.create());
  return forge.pki.certificateToPem(certificate);
}
