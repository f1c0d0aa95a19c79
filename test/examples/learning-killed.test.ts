/**
 * The examples on real data, as programs: killed half way and run again, they come to the same; and their command lines.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { readMails } from "../../examples/mail/corpus.ts";
import { type Learnt, program as mail } from "../../examples/mail/mail.ts";
import { hitRates } from "../../examples/recommend/advice.ts";
import { installedModules, isHeldOut, readBaskets } from "../../examples/recommend/baskets.ts";
import { program as shop } from "../../examples/recommend/recommend.ts";
import { program as counts, type Statistics } from "../../examples/statistics/statistics.ts";
import { shelfWithout } from "../support/baskets.ts";
import { killedAt, printed } from "../support/example-kill.ts";
import { builtPackage } from "../support/build.ts";
import { temporaryFolder } from "../support/main-job.ts";
import { learntWithout } from "../support/mails.ts";
import { runHere } from "../support/program-run.ts";
import { temporaryPath } from "../support/temporary.ts";

const TAKE = 120;

describe("killed half way and run again", { timeout: 120_000 }, () => {
  let folder: Awaited<ReturnType<typeof temporaryFolder>>;
  let built: string;
  const programOf = (example: string): string => join(built, "dist/examples", example, "main.js");

  beforeAll(async () => {
    folder = await temporaryFolder();
    built = await builtPackage();
  }, 120_000);

  afterAll(() => folder.remove());

  it("the mail filter comes to the same figures", async () => {
    const args = ["--take", `${TAKE}`, "--data", join(folder.path, "mail")];
    await killedAt("50%", programOf("mail"), args);
    const { report, work } = (await printed(programOf("mail"), args)) as Learnt;
    expect(work.before).toBeGreaterThanOrEqual(TAKE / 2);
    expect(work.now).toBe(TAKE - work.before);
    const { right, spam, caught, falseAlarms, mistakes } = learntWithout(await readMails(TAKE)).filed;
    expect(report).toMatchObject({
      mails: TAKE,
      spam,
      accuracy: (right[0] as number) / TAKE,
      recall: caught / spam,
      precision: caught / (caught + falseAlarms),
      mistakes,
    });
  });

  it("the shop comes to the same recommendations", async () => {
    const args = ["--data", join(folder.path, "shop")];
    await killedAt("50%", programOf("recommend"), args);
    const report = await printed(programOf("recommend"), args);
    const baskets = await readBaskets(installedModules());
    const heldOut = baskets.filter(isHeldOut);
    const shelf = shelfWithout(baskets.filter((basket) => !heldOut.includes(basket)));
    expect(report).toMatchObject({ items: shelf.size, ...hitRates(heldOut, shelf) });
  });

  it.each([
    ["log", "bytes of the log", ["--visitors", "60"]],
    ["flights", "flights", ["--take", "20000"]],
  ] as const)("the statistics of the %s come to the same tables", async (only, unit, more) => {
    const args = ["--data", join(folder.path, "statistics"), "--only", only, ...more];
    if (only === "log") args.push("--record", join(folder.path, "access.log"));
    await killedAt(unit, programOf("statistics"), args);
    const { [only]: report } = (await printed(programOf("statistics"), args)) as Statistics;
    // What a direct count of the file says.
    expect(report?.differences).toEqual([]);
    expect((report?.work.now ?? 0) + (report?.work.before ?? 0)).toBeGreaterThan(900);
  });
});

describe("the command lines", () => {
  it.each([
    [mail, ["--take", "none"], /--take needs a whole number above 0/],
    [mail, ["--data", "a", "--nats", "b:1"], /not both/],
    [shop, ["--like", ","], /--like needs names/],
    [shop, ["--fast"], /--fast/],
    [counts, ["--only", "pages"], /--only needs log or flights/],
    [counts, ["--log", "access.log", "--visitors", "3"], /not started with --log/],
    [counts, ["--cart", "basket"], /--cart needs a path/],
  ] as const)("say what is wrong: $1", async (program, args, text) => {
    const { code, stdout, stderr } = await runHere(program, ...args);
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    expect(stderr).toMatch(text);
    expect(stderr).toContain(program.help);
  });

  it("say what cannot be read", async () => {
    const data = temporaryPath();
    const { code, stderr } = await runHere(shop, "--data", data, "--from", join(data, "not there"));
    expect(code).toBe(1);
    expect(stderr).toMatch(/^It does not work in .*: ENOENT/);
  });

  it("show people short tables and how far it is, and answer what they ask", async () => {
    const data = ["--data", temporaryPath()];
    const { code, stdout, stderr } = await runHere(mail, ...data, "--take", "40");
    expect(code).toBe(0);
    expect(stderr).toMatch(/^10% \| 4 of 40 mails\n(.*\n)*100% \| 40 of 40 mails\n$/);
    expect(stdout).toMatch(/^40 mails, \d+ of them spam, each filed before it was learnt from:\n/);
    expect(stdout).toMatch(
      /\n40 mails in [\d.]+ s, [\d,]+ words asked a second; 0 had been filed before\.\n/,
    );
    expect(Math.max(...stdout.split("\n").map(({ length }) => length))).toBeLessThan(110);

    const asked = await runHere(mail, ...data, "--classify", "It depends");
    expect(asked.stdout).toMatch(/^(Not spam|Spam): taken for spam by [\d.]+ %\. What said most: /);
  });

  it("count a log of one's own, and say what of it is none", async () => {
    const log = join(temporaryPath(), "access.log");
    writeFileSync(
      log,
      '::1 - - [01/Jul/2026:10:00:00 +0200] "POST /buy?amount=7.5 HTTP/1.1" 200 9\n\x1b[2Jnothing\n',
    );
    const { code, stdout } = await runHere(
      counts,
      "--data",
      temporaryPath(),
      "--log",
      log,
      "--only",
      "log",
      "--order",
      "/buy",
    );
    expect(code).toBe(0);
    expect(stdout).toMatch(/│ \/buy +│ +0 │ +1 │ +0 │ +9 │ +1 │ +7\.50 │/);
    expect(stdout).toMatch(/│ 2026-07-01 08 │/);
    expect(stdout).toMatch(/│ +2 │ It is not in Common Log Format\. │ \?\[2Jnothing /);
    expect(stdout).toMatch(/\nA direct count of the same file says the same\.\n/);
    expect(Math.max(...stdout.split("\n").map(({ length }) => length))).toBeLessThan(120);
  });

  it("recommend what goes with what somebody likes, and say what nobody has", async () => {
    // The packages of one project are enough.
    const args = ["--data", temporaryPath(), "--from", join(installedModules(), "@vitest")];
    const { stdout } = await runHere(shop, ...args, "--like", "nobody/has-this, tinyrainbow");
    expect(stdout).toMatch(/^Nobody has nobody\/has-this\.\nWho has tinyrainbow is likely to have:\n┌/);
  });
});
