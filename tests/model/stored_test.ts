/**
 * Frozen models in their stored form.
 *
 * Let w be the weights in float32, w + δ what is held. Two things are checked. The held model is the float32 model with the
 * weights w + δ, rounded here by the definition of the form, to within the noise of float32 (the golden's own tolerance). And
 * what holding costs is what the rounding explains: every |δ| is at most the form's error (`largestError`), and the loss
 * changes by g·δ, g the gradient that PyTorch recorded, up to a remainder of second order. The remainder has no sharp bound that
 * is easily had; it is held against ½·(Σ|g||δ|)·2^-3 for f16, whose δ is small, and ½·Σ|g||δ| for the coarser forms.
 */
import assert from "node:assert/strict";
import { openGpu } from "../../src/gpu/device.ts";
import { type Dtype, hostTensor } from "../../src/model/frozen.ts";
import { loadModel, makeModel } from "../../src/model/load.ts";
import { openModel } from "../../src/model/open.ts";
import { asset, assetTest, golden } from "../assets.ts";
import { batchOf, largestDifference, runBatch, Shares } from "./batch.ts";
import { openGolden } from "./golden.ts";
import { type Held, heldTensor, largestError } from "./rounding.ts";
import { testOnProfiles } from "../kernels/helpers.ts";
