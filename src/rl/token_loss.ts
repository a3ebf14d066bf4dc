/**
 * What a loss on token sequences gives to the backward pass.
 *
 * Such losses are computed on the host in float64, between the forward and the backward pass of a plan: the forward pass gives
 * log-probabilities, a function of this folder the loss and its derivatives, and the backward pass starts from these.
 *
 * @module
 */

/** Per sequence, one number per completion token. */
export type PerToken = Float64Array[];

/** A loss with its derivatives. */
export interface TokenLoss {
  /** Its value. */
  loss: number;
  /** d loss / d ln π(token). */
  dLogprobs: PerToken;
  /** d loss / d entropy of the next-token distribution; absent where the loss has no entropy. */
  dEntropies?: PerToken;
  /** d loss / d KL(π‖π_ref) of the next-token distribution; absent where the loss has no exact KL. */
  dKl?: PerToken;
  /** Under TRL's names. */
  metrics: Record<string, number>;
}
