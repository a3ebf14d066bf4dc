/**
 * Which files of a model's repository are needed.
 *
 * @module
 */
import { basename, dirname } from "node:path";
import type { RemoteFile } from "./cache.ts";
import type { Repo } from "./names.ts";

const INDEX = "model.safetensors.index.json";

/** What is small and says what the model is and how it reads. */
const DESCRIPTIONS =
  /^(config|generation_config|tokenizer[\w.-]*|special_tokens_map|adapter_config)\.json$|^chat_template\.jinja$/;

const PICKLE = /\.(bin|pt|pth|pkl|pickle|ckpt)$/;

/** What is to be fetched of a model. */
export type ModelFiles =
  /** A Hugging Face directory; `index` names further weights. */
  | { kind: "directory"; files: RemoteFile[]; index?: RemoteFile }
  /** One GGUF file, in parts where the repository has it so; `path` is the first. */
  | { kind: "gguf"; files: RemoteFile[]; path: string };

/** The files of a model without its weights. */
export function descriptionFiles(files: RemoteFile[]): ModelFiles {
  return { kind: "directory", files: files.filter(({ path }) => DESCRIPTIONS.test(path)) };
}

/**
 * Chooses the files of a model: a directory with safetensors, an adapter, or a GGUF file.
 *
 * @throws {Error} when there is nothing that can be read, or several GGUF files and none was named.
 */
export function modelFiles(repo: Repo, files: RemoteFile[], named?: string): ModelFiles {
  const cannot = `Cannot use ${repo.name}`;
  const top = (name: string) => files.find(({ path }) => path === name);
  const ggufs = files.filter(({ path }) => path.endsWith(".gguf"));
  if (named !== undefined) return namedGguf(cannot, files, ggufs, named);
  const directory = (...weights: RemoteFile[]) => ({
    kind: "directory" as const,
    files: [...descriptionFiles(files).files, ...weights],
  });
  const single = top("model.safetensors"), index = top(INDEX), adapter = top("adapter_model.safetensors");
  if (single) return directory(single);
  if (index) return { ...directory(index), index };
  if (adapter && top("adapter_config.json")) {
    const whole = directory(adapter);
    // What has a config.json is taken for a whole model.
    return { ...whole, files: whole.files.filter(({ path }) => path !== "config.json") };
  }
  const whole = ggufs.filter(({ path }) => (partOf(path)?.number ?? 1) === 1);
  if (whole.length === 1) return namedGguf(cannot, files, ggufs, whole[0].path);
  if (whole.length > 1) {
    throw new Error(
      `${cannot}: it has ${whole.length} GGUF files. Name one, as in ${repo.name}/${whole[0].path}:\n${
        listed(whole)
      }`,
    );
  }
  if (files.some(({ path }) => PICKLE.test(path))) {
    const names = files.filter(({ path }) => PICKLE.test(path)).slice(0, 3).map(({ path }) => path);
    throw new Error(
      `${cannot}: it has its weights only as ${
        names.join(", ")
      }. Such a file is a Python program in disguise (pickle), and keel does not run it. Expected model.safetensors: look for another repository of the same model or a revision with safetensors (refs/pr/N of a conversion, as in ${repo.name}@refs/pr/1), or convert it where you trust it: AutoModelForCausalLM.from_pretrained("${repo.name}").save_pretrained("DIR"), the tokenizer likewise, and give DIR.`,
    );
  }
  throw new Error(
    `${cannot}: it has neither model.safetensors, ${INDEX}, adapter_model.safetensors nor a GGUF file. It has ${
      files.length === 0 ? "no files" : `\n${listed(files)}`
    }`,
  );
}

/** Files of the weights that an index names, whose parsed content is `map`. */
export function shardFiles(repo: Repo, files: RemoteFile[], map: unknown): RemoteFile[] {
  const names = typeof map === "object" && map !== null ? [...new Set(Object.values(map))] : [];
  if (names.length === 0) {
    throw new Error(`Cannot use ${repo.name}: "weight_map" of its ${INDEX} is missing or empty.`);
  }
  return names.map((name) => {
    const file = files.find(({ path }) => path === name);
    if (file && file.path === basename(file.path) && file.path.endsWith(".safetensors")) return file;
    throw new Error(
      `Cannot use ${repo.name}: its ${INDEX} names ${
        JSON.stringify(name)
      }, which is not a safetensors file of the repository.`,
    );
  });
}

function namedGguf(cannot: string, files: RemoteFile[], ggufs: RemoteFile[], named: string): ModelFiles {
  if (!named.endsWith(".gguf")) {
    throw new Error(
      `${cannot}: of a model's repository only a GGUF file can be named, and "${named}" is none. Without it, the whole model is used.`,
    );
  }
  const file = files.find(({ path }) => path === named);
  if (!file) {
    throw new Error(
      `${cannot}: it has no file "${named}". ${
        ggufs.length ? `Its GGUF files are\n${listed(ggufs)}` : "It has no GGUF files."
      }`,
    );
  }
  const part = partOf(named);
  if (!part) return { kind: "gguf", files: [file], path: named };
  const parts = ggufs.filter(({ path }) => {
    const other = partOf(path);
    return other?.stem === part.stem && other.count === part.count;
  });
  if (parts.length !== part.count) {
    throw new Error(`${cannot}: ${named} has ${part.count} parts, of which ${parts.length} are there.`);
  }
  return { kind: "gguf", files: parts, path: parts.find(({ path }) => partOf(path)!.number === 1)!.path };
}

/** Large GGUF files are split: `x-00001-of-00003.gguf`. */
function partOf(path: string): { stem: string; number: number; count: number } | undefined {
  const match = /^(.*)-(\d{5})-of-(\d{5})\.gguf$/.exec(basename(path));
  return match
    ? { stem: `${dirname(path)}/${match[1]}`, number: Number(match[2]), count: Number(match[3]) }
    : undefined;
}

function listed(files: RemoteFile[]): string {
  const lines = files.slice(0, 30).map(({ path, size }) => `  ${path} (${(size / 1e6).toFixed(1)} MB)`);
  return [...lines, ...files.length > 30 ? [`  and ${files.length - 30} more`] : []].join("\n");
}
