/**
 * The command line: commands, flags and help, with commander.
 *
 * @module
 */
import { Command, CommanderError, Option } from "commander";
import type { z } from "zod";
import { VERSION } from "../run/version.ts";
import { type Field, fieldsOf, placeholder } from "./fields.ts";
import { type Io, processIo } from "./io.ts";
import { parseOptions } from "./options.ts";
import { nearest, UsageError } from "./usage_error.ts";

/** What a command does; the number is its exit code, 0 if it returns nothing. */
export type CommandBody = (options: Record<string, unknown>, io: Io) => Promise<number | void>;

/** A command of the program. */
export interface CommandDefinition {
  name: string;
  /** One line for the list of commands. */
  summary: string;
  /** What it does, for its own help. */
  description: string;
  /** Command lines, without the program's name, and what they do. */
  examples: [command: string, meaning: string][];
  schema: z.ZodType;
  /** The flag that an argument without one stands for, e.g. `run` in `keel replay runs/x`. */
  argument?: string;
  load(): Promise<CommandBody>;
}

/** A command without its body. */
export type CommandDescription = Omit<CommandDefinition, "load">;

/** Streams and environment of {@linkcode runProgram}. */
export interface ProgramSettings {
  openIo?: (json: boolean) => Io;
}

/** Options of every command that are not in its schema. */
const GENERAL = ["config", "json", "debug", "help"];

/** Runs a command line and returns the exit code: 0 done, 1 failed, 2 wrong usage, 130 interrupted. */
export async function runProgram(
  argv: string[],
  definitions: CommandDefinition[],
  { openIo = processIo }: ProgramSettings = {},
): Promise<number> {
  const io = openIo(argv.includes("--json"));
  let code = 0;
  const program = new Command("keel")
    .description("RLHF on any GPU: fine-tuning, reward models, PPO, GRPO, DPO and their kin, on WebGPU.")
    .version(VERSION, "--version", "Show the version.")
    .helpOption("-h, --help", "Show this help.")
    .helpCommand(false)
    .addHelpText("after", "\nkeel COMMAND --help shows the options of a command and examples.")
    .showSuggestionAfterError(false)
    .allowUnknownOption()
    .allowExcessArguments()
    .action(() => {
      const [unknown] = program.args;
      if (unknown === undefined) throw new UsageError(program.helpInformation().trimEnd());
      if (unknown.startsWith("-")) {
        throw new UsageError(`Unknown option ${unknown}. A command comes first; keel --help lists them.`);
      }
      const close = nearest(unknown, definitions.map(({ name }) => name));
      throw new UsageError(
        `There is no command "${unknown}". ${close ? `Did you mean ${close}?` : "keel --help lists them."}`,
      );
    });
  configure(program, io);
  for (const definition of definitions) {
    const command = addCommand(program, definition);
    configure(command, io);
    command.action(async () => {
      const { config, flags } = givenFlags(command, definition.argument);
      const { options, warnings } = parseOptions(definition.schema, flags, config);
      for (const warning of warnings) io.note(`Note: ${warning}`);
      const body = await definition.load();
      code = await body(options, io) ?? 0;
    });
  }
  try {
    await program.parseAsync(normalise(argv, definitions), { from: "user" });
    return code;
  } catch (error) {
    return report(error, argv, io);
  }
}

function configure(command: Command, io: Io): void {
  command.exitOverride().configureHelp({ optionDescription: (option) => option.description }).configureOutput(
    {
      writeOut: (text) => io.print(text.trimEnd()),
      // Errors come as exceptions, and are reported in one place.
      writeErr: () => {},
      getOutHasColors: () => false,
      getErrHasColors: () => false,
      getOutHelpWidth: () => Math.min(120, io.columns()),
      getErrHelpWidth: () => Math.min(120, io.columns()),
    },
  );
}

/** Says what went wrong and returns the exit code. */
function report(error: unknown, argv: string[], io: Io): number {
  if (error instanceof CommanderError && error.exitCode === 0) return 0;
  const known = error instanceof Error ? error : new Error(String(error));
  const wrongUsage = error instanceof UsageError || error instanceof CommanderError;
  const message = known.message.replace(/^error: (.)/, (_, first: string) => first.toUpperCase());
  io.note(argv.includes("--debug") && !wrongUsage ? known.stack ?? message : message);
  return wrongUsage ? 2 : 1;
}

function addCommand(
  program: Command,
  { name, summary, description, examples, schema, argument }: CommandDefinition,
): Command {
  const command = program.command(name).summary(summary).description(description)
    .usage(argument ? `${argument.toUpperCase()} [options]` : "[options]")
    .addHelpOption(new Option("-h, --help", "Show this help.").helpGroup("General:"))
    .showSuggestionAfterError(false)
    .allowUnknownOption()
    .allowExcessArguments();
  for (const field of fieldsOf(schema)) addFlags(command, field);
  command
    .addOption(
      new Option("--config <path>", "YAML or JSON file of options; flags override it.").helpGroup("General:"),
    )
    .addOption(new Option("--json", "Write results as JSON.").helpGroup("General:"))
    .addOption(new Option("--debug", "Show where an error comes from.").helpGroup("General:"));
  const lines = examples.map(([line, meaning]) => `  # ${meaning}\n  keel ${line}`);
  if (lines.length) command.addHelpText("after", `\nExamples:\n${lines.join("\n")}`);
  return command;
}

/** The flag of a field, and its aliases, which help shows beside it. */
function addFlags(command: Command, field: Field): void {
  const value = field.kind === "boolean" && !field.list ? "[true|false]" : `<${placeholder(field)}>`;
  const choices = field.kind === "choice" ? ` One of ${field.choices.join(", ")}.` : "";
  const other = field.aliases.length ? ` Also --${field.aliases.join(", --")}.` : "";
  [field.flag, ...field.aliases].forEach((flag, i) => {
    const option = new Option(
      `--${flag} ${value}`,
      `${field.description}${choices}${other} (${fallback(field)})`,
    )
      .preset("true")
      .argParser((text: string, before: string[] | undefined) => [...before ?? [], text])
      .helpGroup(`${field.group}:`);
    command.addOption(i === 0 ? option : option.hideHelp());
  });
}

function fallback(field: Field): string {
  const { default: value } = field;
  if (field.required) return "required";
  if (value === undefined || value === null) return "default: none";
  if (Array.isArray(value)) return `default: ${value.join(",") || "empty"}`;
  const small = typeof value === "number" && value !== 0 && Math.abs(value) < 1e-3;
  return `default: ${small ? value.toExponential() : value}`;
}

/** Flags as they were given, unknown ones included: whether those are an error depends on what they are. */
function givenFlags(command: Command, argument?: string): { config?: string; flags: Map<string, string[]> } {
  const flags = new Map<string, string[]>();
  for (const option of command.options) {
    const flag = option.long!.slice(2);
    const texts = command.getOptionValue(option.attributeName());
    if (!GENERAL.includes(flag) && Array.isArray(texts)) flags.set(flag, texts);
  }
  const rest = command.args;
  for (let i = 0; i < rest.length; i++) {
    const match = /^--([^=]+)(?:=(.*))?$/s.exec(rest[i]);
    if (!match && argument !== undefined && !flags.has(argument)) {
      flags.set(argument, [rest[i]]);
      continue;
    }
    if (!match) {
      throw new UsageError(
        `Got "${rest[i]}", expected an option (--name value). See keel ${command.name()} --help.`,
      );
    }
    const next = rest[i + 1];
    const takesNext = match[2] === undefined && next !== undefined && !next.startsWith("--");
    flags.set(match[1].replaceAll("-", "_"), [match[2] ?? (takesNext ? next : "true")]);
    if (takesNext) i++;
  }
  return { config: command.getOptionValue("config"), flags };
}

/** `--kl-coef` → `--kl_coef`, and `--no_packing` or `--no-packing` → `--packing=false`, for flags that exist. */
function normalise(argv: string[], definitions: CommandDefinition[]): string[] {
  const first = argv.find((argument) => !argument.startsWith("-"));
  const definition = definitions.find(({ name }) => name === first);
  if (!definition) return argv;
  const fields = fieldsOf(definition.schema);
  const known = new Map(
    fields.flatMap((field) => [field.flag, ...field.aliases].map((flag) => [flag, field])),
  );
  return argv.map((argument) => {
    const match = /^--([a-z][\w-]*)(=.*)?$/si.exec(argument);
    if (!match) return argument;
    const flag = match[1].replaceAll("-", "_");
    if (known.has(flag)) return `--${flag}${match[2] ?? ""}`;
    const positive = flag.replace(/^no_/, "");
    return known.get(positive)?.kind === "boolean" && positive !== flag ? `--${positive}=false` : argument;
  });
}
