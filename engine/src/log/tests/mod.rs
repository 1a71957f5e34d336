//! Tests of the log as a whole: what was written is read, from every position, on both devices,
//! after crashes and damage.

mod crash;
mod disk;
mod file;
mod news;
mod paging;
mod power;
mod quiet;
mod reading;
mod sealing;
mod segments;
mod shapes;
mod thinning;
mod trimming;
mod world;

pub(crate) use disk::{Contents, Disk};
