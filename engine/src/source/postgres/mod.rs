//! The Postgres source: a logical replication slot in, fragments out to the publisher, and the end
//! LSN of the last flushed commit back to the slot.
//!
//! In order of the data's way: `setup` prepares the server, `frame` and `decode` read what it
//! sends, `assemble` makes fragments of it, `acks` says what may be acknowledged, `floor` makes
//! that durable, and `link` tells it; `stream` pumps them all on the source's own thread, and
//! [`PostgresSource`] is the embedder's handle to it.

mod acks;
mod assemble;
mod catalog;
mod config;
mod continuity;
mod decode;
mod error;
mod floor;
mod frame;
mod link;
mod quote;
mod run;
mod setup;
mod source;
mod status;
mod stream;

pub use assemble::AssembleError;
pub use config::{PostgresConfig, PublishedTables};
pub use decode::DecodeError;
pub use error::PostgresError;
pub use frame::FrameError;
pub use source::PostgresSource;
pub use status::{PostgresState, PostgresStatus};
