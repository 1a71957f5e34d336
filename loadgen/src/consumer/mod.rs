//! Consumers: the embedder's side of a run. A consumer counts what it is handed, reports every
//! commit, and dies when it is told to. What it had reported outlives it in the [`Population`],
//! where its next incarnation finds it and the verification counts it.

mod counting;
mod factory;
mod kill;
mod killer;
mod mixed;
mod population;
mod storm;

pub(crate) use counting::trace;
pub(crate) use factory::CountingFactory;
pub(crate) use kill::{KillKind, kill, silence_kills};
pub(crate) use killer::{Killer, kinds};
pub(crate) use mixed::{DEADLINE, Misbehaved, Mixed, STILL_MAX};
pub(crate) use population::{Population, Prefix};
pub(crate) use storm::{Storm, Stormed, strike};
