//! Watch: threads that look at a running engine from outside: when the flushed LSN moves, how late
//! an idle timer fires, how the run goes over time. They change nothing.

mod flush;
mod hiccup;
mod published;
mod series;

pub(crate) use flush::{FlushReport, FlushSeen, FlushWatch};
pub(crate) use hiccup::HiccupWatch;
pub(crate) use published::Published;
pub(crate) use series::{Point, Sampler};
