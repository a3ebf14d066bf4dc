/**
 * Options of the control server.
 *
 * @module
 */
import { z } from "zod";
import { type Agree, count, option } from "./common.ts";

/** Options of `serve`. */
export interface ServeOptions {
  /** Where to listen. */
  host: string;
  /** Port; 0 for any that is free. */
  port: number;
  /** The directory whose folders are the runs. */
  runsDir: string;
  /** Ask for the token on this machine, too. */
  token: boolean;
  /** Runs that may go at the same time. */
  maxConcurrentRuns: number;
  /** Further names under which the server may be addressed. */
  allowHost: string[];
  /** Requests may name files of reward functions, servers of rewards and judges. */
  allowRewardSources: boolean;
}

const group = "Server";

/** Schema of {@linkcode ServeOptions}. */
export const serveSchema = z.strictObject({
  host: option(
    group,
    "Address or name to listen at; beyond 127.0.0.1 the token is asked for.",
    z.string().min(1).default("127.0.0.1"),
  ),
  port: option(group, "Port; 0: any that is free.", count(0).max(65535).default(8686)),
  runsDir: option(group, "The directory whose folders are the runs.", z.string().min(1).default("runs")),
  token: option(group, "Ask for the token on this machine, too.", z.boolean().default(false)),
  maxConcurrentRuns: option(
    group,
    "Runs that may go at the same time; others wait in a queue.",
    count(1).default(1),
  ),
  allowHost: option(
    group,
    "Further names under which the server may be addressed, as behind a proxy.",
    z.array(z.string().min(1)).default([]),
  ),
  allowRewardSources: option(
    group,
    "Let requests give reward_funcs that are files, reward_url, judge_url, judge_rubric and judge_api_key_env: whoever may make a run may then run code as you, and have texts and the judge's key sent anywhere. Built-in rewards and reward models are always allowed.",
    z.boolean().default(false),
  ),
});

true satisfies Agree<z.output<typeof serveSchema>, ServeOptions>;
