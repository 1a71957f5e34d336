//! Run: one scenario from an empty store to a verified outcome. Sets the engine up, loads it,
//! drains it, asks the oracle, and only then hands figures out.

mod error;
mod finish;
mod load;
mod setup;
mod stop;

pub(crate) use error::RunError;
pub(crate) use finish::Outcome;

use crate::cli::{AckMode, Consumers, SourceArg};
use crate::config::Config;
use crate::progress::Progress;
use crate::scenario::Scenario;
use crate::store::Place;

/// Runs what `config` says.
pub(crate) fn run(config: &Config, progress: &Progress) -> Result<Outcome, RunError> {
    if config.scenario == Scenario::Crash && !config.has_consumers() {
        return Err(RunError::NothingToKill);
    }
    let goes_to_all = config.scenario.matches_all()
        && (config.consumers, config.ack) == (Consumers::Mailbox, AckMode::Consumer)
        && config.source == SourceArg::Synthetic;
    if (config.mixed || config.stop) && !goes_to_all {
        return Err(RunError::NotForAll);
    }
    let place = Place::new(&config.store)?;
    let mut source = crate::source::open(config, progress)?;
    let setup = setup::set_up(config, &place, source.as_mut(), progress)?;
    let (rest, loaded) = load::load(config, setup, source, progress)?;
    finish::finish(config, &place, rest, loaded, progress)
}
