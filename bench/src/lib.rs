//! The baselines that walfan's benches stand beside.
