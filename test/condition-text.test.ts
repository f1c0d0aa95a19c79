/** Conditions as people write them: one form for the command line, addresses and the dashboard. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { splitConditions, withCondition, withConditions } from "../runtime/words/condition-text.ts";

describe("conditions as text", () => {
  it.each([
    ["total>=10", { total: { gte: 10 } }],
    [" customer.id = ada ", { "customer.id": { eq: "ada" } }],
    ["customer.id==ada", { "customer.id": { eq: "ada" } }],
    ["name^=A", { name: { prefix: "A" } }],
    ["zip^=10", { zip: { prefix: "10" } }],
    ['zip^="10"', { zip: { prefix: "10" } }],
    ['sku=["tea","milk"]', { sku: { in: ["tea", "milk"] } }],
    ["paid!=true", { paid: { ne: true } }],
    ["code=null", { code: { eq: null } }],
    ['code="null"', { code: { eq: "null" } }],
    ["name=", { name: { eq: "" } }],
    ["placed<@2026-01-31", { placed: { lt: new Date("2026-01-31") } }],
    ["formula=a=b", { formula: { eq: "a=b" } }],
    ["__proto__=1", { ["__proto__"]: { eq: 1 } }],
  ])("%s", (text, wanted) => {
    expect(withConditions(text)).toEqual(wanted);
  });

  it("several stand behind one another; commas within values cut nothing", () => {
    expect(withConditions("total>1, total<3,name=a,b")).toEqual({
      total: { gt: 1, lt: 3 },
      name: { eq: "a,b" },
    });
    expect(splitConditions('name="x, y=z", sku=[1,2], total>=3')).toEqual([
      'name="x, y=z"',
      " sku=[1,2]",
      " total>=3",
    ]);
    expect(splitConditions('name="a\\", b=c", total>=3')).toEqual(['name="a\\", b=c"', " total>=3"]);
  });

  it.each([
    ["total", "is no condition: it is PATH=VALUE"],
    ["", "is no condition"],
    [">=3", "is no condition"],
    ["total>[1,2]", "a list of values goes with ="],
    ["total<@never", '"never" is no date'],
    ["total>1, total>2", '"total" is compared twice by >'],
  ])("%j is refused, and says why", (text, why) => {
    expect(() => withConditions(text)).toThrow(why);
  });

  it("whatever is a condition is one among others too", () => {
    const path = fc.stringMatching(/^[a-z]{1,5}(\.[a-z]{1,5})?$/);
    const value = fc.oneof(fc.integer(), fc.boolean(), fc.string(), fc.array(fc.string(), { minLength: 1 }));
    const one = fc.tuple(path, value).map(([name, is]) => `${name}=${JSON.stringify(is)}`);
    fc.assert(
      fc.property(fc.uniqueArray(one, { selector: (text) => text.split("=")[0], minLength: 1 }), (all) => {
        const apart = all.reduce((before, text) => withCondition(text, before), {});
        expect(withConditions(all.join(", "))).toEqual(apart);
      }),
    );
  });
});
