//! Limits: what a life takes from its own process, so that the engine meets a system that gives no
//! file handle, or no more of a file.

use super::plan::Load;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs;
use std::io;
use std::path::Path;

/// What is there from the start.
pub(super) fn before_open(directory: &Path, load: &Load) -> io::Result<()> {
    if let Some(growth) = load.file_growth_max {
        set(Resource::Fsize, largest(directory)? + growth)?;
    }
    load.handles_max.map_or(Ok(()), |max| set(Resource::Nofile, max))
}

/// What is there once the engine runs.
pub(super) fn after_open(load: &Load) -> io::Result<()> {
    if load.no_more_handles {
        let open = fs::read_dir("/proc/self/fd")?.count() as u64;
        // One of them was the listing's own.
        set(Resource::Nofile, open - 1)?;
    }
    Ok(())
}

fn set(resource: Resource, limit: u64) -> io::Result<()> {
    let maximum = getrlimit(resource).maximum;
    Ok(setrlimit(resource, Rlimit { current: Some(limit), maximum })?)
}

/// Bytes of the largest file.
fn largest(directory: &Path) -> io::Result<u64> {
    let mut largest = 0;
    for entry in fs::read_dir(directory)? {
        largest = largest.max(entry?.metadata()?.len());
    }
    Ok(largest)
}
