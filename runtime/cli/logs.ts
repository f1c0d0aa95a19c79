/**
 * How the commands that run nodes log: `--log-level`, `--log-format`.
 *
 * Owns these options. With the format `json` each line on standard error is one of pino's, for whoever gathers logs.
 */
import { type Command, Option } from "commander";
import { pino } from "pino";
import type { Level } from "../telemetry/log.ts";
import { Console, LEVELS } from "./console.ts";
import type { Shell } from "./shell.ts";

export interface LogFlags {
  readonly json?: boolean;
  readonly logLevel: Level;
  readonly logFormat: "text" | "json";
}

export function addLogOptions(command: Command): Command {
  return command
    .addOption(
      new Option("--log-level <level>", "log on standard error what has at least this weight")
        .choices(LEVELS)
        .default("info")
        .env("KEYTURN_LOG_LEVEL"),
    )
    .addOption(
      new Option("--log-format <format>", "log lines for people, or pino's JSON lines")
        .choices(["text", "json"])
        .default("text")
        .env("KEYTURN_LOG_FORMAT"),
    );
}

export function consoleOf(
  name: string,
  { json = false, logLevel: level, logFormat }: LogFlags,
  { stdout, stderr }: Shell,
): Console {
  const log = logFormat === "json" ? pino({ name, level }, stderr) : undefined;
  return new Console({ name, json, stdout, stderr, level, log });
}
