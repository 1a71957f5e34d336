//! Consumers: what receives a shape's deliveries, how it is made and made again, and where it
//! waits. What a consumer owes and when it restarts is decided by its shard, not here.

mod api;
mod contain;
mod delivery;
mod gap;
mod hands;
mod inline;
mod link;
mod mail;
mod mailbox;
mod part;
mod progress;
mod recent;
mod seat;

pub use api::{Ack, Consumer, ConsumerError, ConsumerSpec, Factory, Reporter, Start, Started};
pub use delivery::{Context, Delivery, ReportError};

pub(crate) use contain::{Foreign, cause_text, contain, drop_contained, panic_text};
pub(crate) use delivery::Given;
pub(crate) use hands::{Hands, Inside, Pulse, Tally};
pub(crate) use inline::{InlineState, Streak, hand_inline, hand_streak};
pub(crate) use link::{Member, ShardGauges, ShardLink};
pub(crate) use mail::{Mail, fetch_channel};
pub(crate) use mailbox::{Mailbox, MailboxName, Note, Verdict};
pub(crate) use part::{Feed, MAIL_BUDGET, Part, Step};
pub(crate) use recent::Recent;
pub(crate) use seat::{Seat, Sitter};
