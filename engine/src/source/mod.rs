//! Sources: what brings a database's transactions into the engine and carries the flushed LSN
//! back. A source sees the engine as any embedder does, through its public face.

pub(crate) mod postgres;
