//! Shape log: one append-only file a shard (or as much memory), where each change is written once
//! with the sets of slots that it was delivered to. Machines only; threads are started elsewhere.
//!
//! ```text
//!  shard ── fragment, add_shape ──▶ Encoder ── Batch ──▶ Syncer ── write, sync ──▶ Device
//!                                                          │ publish                 │ read_at
//!                    readers ◀── Chunk ── Log ◀── Index ◀──┘      Decoder ◀──────────┘
//! ```
//! A *batch* is what one write and one sync cover. A *block* is some whole batches, about 1 MiB:
//! numbers of sets and relations hold inside a block only, so that each block decodes on its own
//! (R8). Recovery reads the file once and trusts nothing but what it says.

mod cache;
mod claims;
mod decode;
mod device;
mod dictionary;
mod directory;
mod encode;
mod files;
mod floor;
mod frame;
mod gather;
mod header;
mod index;
mod json;
mod pages;
mod postings;
mod quota;
mod read;
mod record;
mod records;
mod recover;
mod rewrite;
mod scan;
mod sealed;
mod segments;
mod shelf;
#[cfg(all(any(test, feature = "testing"), not(loom)))]
mod simulated;
mod span;
mod store;
mod survey;
mod thin;
mod thinned;
#[cfg(all(any(test, feature = "testing"), not(loom)))]
mod trial;
mod wire;

pub use directory::OpenError;
pub use floor::RaisedFloor;
pub use read::{LoggedChange, Page, ReadLimits};

pub(crate) use decode::Chunk;
pub(crate) use device::{ReadAt, Storage};
pub(crate) use directory::Directory;
pub(crate) use encode::{Batch, EncodeError, Encoder};
pub(crate) use floor::Floor;
pub(crate) use frame::checksum;
pub(crate) use json::write_initial_line;
pub(crate) use read::read_shape;
pub(crate) use record::put_definition;
pub(crate) use recover::{RecoverError, Recovered, RecoveredShape, recover};
#[cfg(all(any(test, feature = "testing"), not(loom)))]
pub(crate) use simulated::SimulatedDisk;
pub(crate) use store::{Log, LogError, Syncer, in_memory};
pub(crate) use thin::{Retention, Step, Thinner};
#[cfg(all(any(test, feature = "testing"), not(loom)))]
pub use trial::Trial;
pub(crate) use wire::{Malformed, Reader, put_number, put_offset};

/// A block is closed when it has passed this many bytes.
pub(crate) const BLOCK_BYTES_MAX: usize = 1 << 20;
/// A new file is begun when a shard's last one has passed this many bytes, by default.
pub(crate) const SEGMENT_BYTES_MAX: u64 = 64 << 20;

#[cfg(test)]
pub(crate) use tests::{Contents, Disk};

#[cfg(test)]
mod tests;
