/**
 * How a kernel that works row by row is laid out on the two profiles.
 *
 * cpu: one lane walks one row, so nothing crosses lanes. gpu: one workgroup walks one row, its invocations stride over the
 * columns and sums go through workgroup memory as a tree of fixed shape. The body of a kernel is written once, with the
 * pieces below.
 *
 * @module
 */
import { LINEAR_GROUP, linearGrid, type Profile } from "./kernel.ts";

/** The pieces of a row kernel's text and its grid. */
export interface RowLayout {
  workgroup: number;
  module: string;
  /** WGSL expression of the row. */
  row: string;
  /** First column group of this invocation and the step to its next. */
  first: string;
  step: string;
  /** Statements that define `name` as the sum of `value` over the row. */
  sum(name: string, value: string): string;
  /** True in one invocation of each row. */
  leader: string;
  grid(rows: number): [number, number, number];
}

const GPU_WORKGROUP = 64;

/** The row layout of a profile. */
export function rowLayout(profile: Profile): RowLayout {
  if (profile.kind === "cpu") {
    return {
      workgroup: profile.lanes,
      module: "",
      row: `${LINEAR_GROUP} * ${profile.lanes}u + lane`,
      first: "0u",
      step: "1u",
      sum: (name, value) => `let ${name} = ${value};`,
      leader: "true",
      grid: (rows) => linearGrid(Math.ceil(rows / profile.lanes)),
    };
  }
  return {
    workgroup: GPU_WORKGROUP,
    module: WORKGROUP_SUM,
    row: LINEAR_GROUP,
    first: "lane",
    step: `${GPU_WORKGROUP}u`,
    sum: (name, value) => `let ${name} = workgroupSum(lane, ${value});`,
    leader: "lane == 0u",
    grid: linearGrid,
  };
}

const WORKGROUP_SUM = `var<workgroup> sums: array<f32, ${GPU_WORKGROUP}>;
fn workgroupSum(lane: u32, value: f32) -> f32 {
  workgroupBarrier();
  sums[lane] = value;
  workgroupBarrier();
  for (var width = ${GPU_WORKGROUP / 2}u; width > 0u; width = width / 2u) {
    if (lane < width) { sums[lane] = sums[lane] + sums[lane + width]; }
    workgroupBarrier();
  }
  return sums[0];
}`;
