/** The variants of examples/nats, copied so that ports in them can be set for a test. */
import { cpSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** Passwords that a test gives to the users of accounts/users.conf. */
export const passwords = {
  KEYTURN_PROVISIONER_PASSWORD: "provisioner-secret",
  // What a password manager may make; README.md says how it has to be written.
  KEYTURN_NODE_PASSWORD: '"12 34#{$nothing}"',
  // bcrypt of "correct horse".
  KEYTURN_CLIENT_PASSWORD: '"$2a$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e"',
  KEYTURN_BROWSER_PASSWORD: "browser-secret",
} as const;

/** What the users themselves say. */
export const secrets = {
  keyturn_provisioner: "provisioner-secret",
  keyturn_node: "12 34#{$nothing}",
  keyturn_client: "correct horse",
  keyturn_browser: "browser-secret",
} as const;

export type User = keyof typeof secrets;

/**
 * Copies all variants into a folder, and puts one address in the place of another in some of their files: each must be
 * there once.
 * @param edits by file, what stands there and what is to stand there
 */
export function copyVariants(
  folder: string,
  edits: Readonly<Record<string, Readonly<Record<string, string>>>>,
): void {
  cpSync(fileURLToPath(new URL("../../examples/nats", import.meta.url)), folder, { recursive: true });
  for (const [file, replacements] of Object.entries(edits)) {
    const path = join(folder, file);
    let text = readFileSync(path, "utf8");
    for (const [from, to] of Object.entries(replacements)) {
      const parts = text.split(from);
      if (parts.length !== 2)
        throw new Error(`${from} stands ${parts.length - 1} times in ${file}, not once.`);
      text = parts.join(to);
    }
    writeFileSync(path, text);
  }
}
