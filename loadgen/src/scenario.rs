//! Scenario: what a run is about. A scenario fixes the definitions, which shapes a change matches,
//! and the defaults that the command line leaves open.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// The scenarios of `loadgen run`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Scenario {
    /// Every change matches every shape.
    Fanout,
    /// Each change matches another random half of the shapes.
    Scatter,
    /// Each change matches one shape.
    Disjoint,
    /// Fanout while consumers are killed.
    Crash,
}

impl Scenario {
    /// All, in the order in which they are listed.
    pub(crate) const ALL: [Scenario; 4] =
        [Scenario::Fanout, Scenario::Scatter, Scenario::Disjoint, Scenario::Crash];

    /// The name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Scenario::Fanout => "fanout",
            Scenario::Scatter => "scatter",
            Scenario::Disjoint => "disjoint",
            Scenario::Crash => "crash",
        }
    }

    /// A shape's definition, as a reader would write it.
    pub(crate) fn definition(self) -> &'static str {
        match self {
            Scenario::Fanout | Scenario::Crash => "kind = 'hot' OR id = <i>",
            Scenario::Scatter => "price < <c_i>",
            Scenario::Disjoint => "name = '<i>'",
        }
    }

    /// What happens in it.
    pub(crate) fn what(self) -> &'static str {
        match self {
            Scenario::Fanout => "each change matches all shapes",
            Scenario::Scatter => "each change matches other shapes, half of them on average",
            Scenario::Disjoint => "each change matches one shape",
            Scenario::Crash => {
                "fanout with 1 % of the consumers killed per second, in four ways; some \
                 transactions have two changes in two fragments, some arrive in bursts"
            }
        }
    }

    /// The fraction of the consumers killed per second, unless the command line says otherwise.
    pub(crate) fn crash_rate(self) -> f64 {
        if self == Scenario::Crash { 0.01 } else { 0.0 }
    }

    /// Whether each transaction matches every shape.
    pub(crate) fn matches_all(self) -> bool {
        matches!(self, Scenario::Fanout | Scenario::Crash)
    }
}
