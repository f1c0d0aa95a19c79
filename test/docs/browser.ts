/** What the fragments about pages are about. */
export { createClient } from "keyturn/browser";
export declare const session: {
  readonly token: string;
  renewed(): Promise<string>;
  signIn(): Promise<void>;
};
