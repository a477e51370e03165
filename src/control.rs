//! The loop: deltas to published snapshots.
