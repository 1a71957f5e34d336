//! Feed: bringing lagging consumers up to the present from the log (R4), many at a time.

mod feeder;

pub(crate) use feeder::Feeder;
