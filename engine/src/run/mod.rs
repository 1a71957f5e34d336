//! Run: the pool of runner threads' work: which consumer runs where and when. Who owes what is the
//! shards' affair.

mod pool;
mod runner;

pub(crate) use pool::{Pool, StartJob};
pub(crate) use runner::{Runner, RunnerShared};
