/** Words for the parts of an OpenAPI document. */

export type Schema = Record<string, unknown>;

export const object = (properties: Schema, required = Object.keys(properties)): Schema => ({
  type: "object",
  properties,
  ...(required.length === 0 ? {} : { required }),
});
export const text = (more: Schema = {}): Schema => ({ type: "string", ...more });
export const whole = (minimum = 0): Schema => ({ type: "integer", minimum });
export const list = (items: Schema): Schema => ({ type: "array", items });
export const ref = (name: string): Schema => ({ $ref: `#/components/schemas/${name}` });
export const json = (schema: Schema): Schema => ({ content: { "application/json": { schema } } });
export const anything: Schema = {};
