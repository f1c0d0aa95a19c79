/** What the items of examples/recommend must come to, counted without the runtime. */
import type { Shelf } from "../../examples/recommend/advice.ts";
import type { Basket } from "../../examples/recommend/baskets.ts";

export function shelfWithout(baskets: readonly Basket[]): Shelf {
  const shelf = new Map<string, { baskets: number; together: Map<string, { count: number; over: 0 }> }>();
  for (const { items } of baskets) {
    for (const name of items) {
      const row = shelf.get(name) ?? { baskets: 0, together: new Map() };
      shelf.set(name, row);
      row.baskets++;
      for (const other of items) {
        if (other === name) continue;
        row.together.set(other, { count: (row.together.get(other)?.count ?? 0) + 1, over: 0 });
      }
    }
  }
  return shelf;
}
