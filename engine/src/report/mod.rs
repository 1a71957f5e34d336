//! Reports: how consumers' threads tell a shard that something of a shape has changed (R5).
//!
//! A reporter stores its value, marks the shape in the shard's [`Dirty`] bitmap and, if the mark
//! asks for it, wakes the shard ([`Wake`]). What the value is, and what the shard does about it, is
//! theirs.

mod dirty;
mod wake;

pub(crate) use dirty::{Dirty, DirtyPage};
pub(crate) use wake::{Sleeper, Wake};
