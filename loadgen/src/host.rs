//! Host: the machine, and the commit that the binary's sources are at, for the report.

use serde::Serialize;
use std::fs;
use std::process::Command;

/// The machine.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Host {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) memory_mib: u64,
    pub(crate) os: String,
    pub(crate) kernel: String,
}

impl Host {
    pub(crate) fn new() -> Host {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let cpu = field(&read("/proc/cpuinfo"), "model name", ':');
        let memory = field(&read("/proc/meminfo"), "MemTotal", ':');
        let memory_kib = memory.trim_end_matches("kB").trim().parse().unwrap_or(0);
        let os = field(&read("/etc/os-release"), "PRETTY_NAME", '=');
        Host {
            cpu,
            cores: cores(),
            memory_mib: memory_kib / 1024,
            os: os.trim_matches('"').to_owned(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        }
    }
}

/// How many threads run at once.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The first value of `key`, or nothing where there is none.
fn field(text: &str, key: &str, separator: char) -> String {
    let value = text.lines().find_map(|line| {
        let (name, value) = line.split_once(separator)?;
        (name.trim() == key).then(|| value.trim().to_owned())
    });
    value.unwrap_or_default()
}

/// Where the sources are.
#[derive(Clone, Debug)]
pub(crate) struct Revision {
    /// The commit, or `unknown`.
    pub(crate) commit: String,
    /// Whether the sources differ from it; also where that cannot be known.
    pub(crate) dirty: bool,
}

impl Revision {
    pub(crate) fn new() -> Revision {
        let commit = git(&["rev-parse", "HEAD"]).unwrap_or_else(|| "unknown".into());
        // Results are written by runs: they do not change what runs.
        let status = git(&["status", "--porcelain", "--", ":/", ":(exclude,top)results"]);
        Revision { commit, dirty: status.is_none_or(|status| !status.is_empty()) }
    }

    /// The first digits of the commit.
    pub(crate) fn short(&self) -> &str {
        self.commit.get(..7).unwrap_or(&self.commit)
    }
}

fn git(arguments: &[&str]) -> Option<String> {
    let sources = env!("CARGO_MANIFEST_DIR");
    let output = Command::new("git").args(["-C", sources]).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let text = "model\t: 1\nmodel name\t: Some CPU: 3 GHz\nmodel name : other\n";
        assert_eq!(field(text, "model name", ':'), "Some CPU: 3 GHz");
        assert_eq!(field(text, "name", ':'), "");
    }
}
