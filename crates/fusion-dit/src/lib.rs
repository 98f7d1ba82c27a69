//! Deep Instruction Tuning for Segment Anything
