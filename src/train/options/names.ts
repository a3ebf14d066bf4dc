/** Names of options: camelCase in TypeScript, TRL's snake_case everywhere else. */

/** `klCoef` → `kl_coef`; `adamBeta1` → `adam_beta1`. */
export function snakeCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

/** `kl_coef` and `kl-coef` → `klCoef`. */
export function camelCase(name: string): string {
  return name.replace(/[_-]+([a-z0-9])/gi, (_, letter: string) => letter.toUpperCase());
}
