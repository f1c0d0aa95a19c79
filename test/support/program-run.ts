/** Programs of the examples in this process: quick, for what their command lines alone decide. */
import { vi } from "vitest";
import { execute, type Program } from "../../examples/program.ts";

/** What a program prints and how it ends. */
export async function runHere(
  program: Program,
  ...args: string[]
): Promise<{ readonly code: number; readonly stdout: string; readonly stderr: string }> {
  const texts = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const) {
    vi.spyOn(process[name], "write").mockImplementation((text) => {
      texts[name] += text;
      return true;
    });
  }
  try {
    return { code: await execute(program, args, new AbortController().signal), ...texts };
  } finally {
    vi.restoreAllMocks();
  }
}
