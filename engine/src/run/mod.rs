//! Run: the pool of runner threads' work: which consumer runs where and when. Who owes what is the
//! shards' affair.

mod bell;
mod pool;
mod runner;
mod watch;

pub(crate) use pool::{Pool, StartJob};
pub(crate) use runner::Runner;
pub(crate) use watch::{Watch, WatchLimits};
