/**
 * The data of a document: how <data> come by their values.
 *
 * Owns the order of that, what an invoking session gives, and that one without a value keeps no other from its own. Talks
 * to the data model.
 */
import { type Document, type Step, textValue } from "./content.ts";
import { attribute, childrenOf, readBeside, textIn, type XmlElement } from "./document.ts";

/** The <data> of some states, in document order. */
export function dataOf(owners: readonly XmlElement[]): XmlElement[] {
  const models = owners.flatMap((owner) => childrenOf(owner, "datamodel"));
  return models.flatMap((model) => childrenOf(model, "data"));
}

/**
 * What gives the data of some states their values.
 * @param names for the start of a document: everything that it declares, which is then there without a value; and what
 *   the invoking session gave counts
 */
export function dataSteps(
  document: Document,
  owners: readonly XmlElement[],
  names: readonly string[] | undefined,
): Step[] {
  const declare: Step = ({ model }) => {
    for (const name of names ?? []) model.declare(name, undefined);
  };
  const steps = dataOf(owners).map((one) => dataStep(document, one, names !== undefined));
  return names === undefined ? steps : [declare, ...steps];
}

function dataStep(document: Document, element: XmlElement, isStart: boolean): Step {
  const name = attribute(element, "id") ?? "";
  const expression = attribute(element, "expr");
  const source = attribute(element, "src");
  const text = source === undefined ? textIn(element) : readBeside(document.folder, source);
  return ({ model, given, fail }) => {
    if (isStart && Object.hasOwn(given, name)) model.declare(name, given[name]);
    else {
      try {
        model.declare(name, expression === undefined ? textValue(model, text) : model.evaluate(expression));
      } catch {
        // The variable stays without a value, and the others get theirs.
        fail();
      }
    }
  };
}
